// The connection: JSON out, JSON and pictures in; it comes back by itself.

export class Link {
  constructor(handlers) {
    this.handlers = handlers; // onMessage(json), onFrame(header, bitmap), onFile(header, blob), onState(open)
    this.newest = 0;
    this.open();
  }

  open() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    this.socket = new WebSocket(`${scheme}://${location.host}/ws`);
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () => { this.newest = 0; this.handlers.onState(true); };
    this.socket.onclose = () => { this.handlers.onState(false); setTimeout(() => this.open(), 1500); };
    this.socket.onmessage = (event) => {
      if (typeof event.data === "string") this.handlers.onMessage(JSON.parse(event.data));
      else this.binary(event.data);
    };
  }

  send(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  async binary(data) {
    const length = new DataView(data).getUint32(0, true);
    const header = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
    const body = new Uint8Array(data, 4 + length);
    if (header.kind === "file") {
      this.handlers.onFile(header, new Blob([body]));
      return;
    }
    const bitmap = await createImageBitmap(new Blob([body], { type: "image/jpeg" }));
    // Decoding may overtake: an older picture is never shown after a newer one.
    if (header.frame > this.newest) {
      this.newest = header.frame;
      this.handlers.onFrame(header, bitmap);
    }
    bitmap.close();
    this.send({ type: "got", frame: header.frame });
  }
}
