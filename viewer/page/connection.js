// The websocket to the server: sends JSON, receives JSON and images, and reconnects by itself.

const RECONNECT_MS = 1500;

export class Connection {
  constructor(handlers) {
    this.handlers = handlers; // onMessage(json), onFrame(header, bitmap), onFile(header, blob), onState(open)
    this.newest = 0; // number of the newest frame shown
    this.open();
  }

  open() {
    const address = new URL("ws", location.href); // relative: the page may be behind a proxy's prefix
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    this.socket = new WebSocket(address);
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () => { this.newest = 0; this.handlers.onState(true); };
    this.socket.onclose = () => { this.handlers.onState(false); setTimeout(() => this.open(), RECONNECT_MS); };
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
    // Frames may finish decoding out of order; never show an older one after a newer one.
    if (header.frame > this.newest) {
      this.newest = header.frame;
      this.handlers.onFrame(header, bitmap);
    }
    bitmap.close();
    this.send({ type: "shown", frame: header.frame });
  }
}
