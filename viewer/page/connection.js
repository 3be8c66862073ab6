// The websocket to the server: sends JSON, receives JSON and images, and reconnects by itself. And the address of the page.

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

// What the address keeps of the view, behind its #, and the server's messages that bring it back. The values come from
// whoever made the link: here they only become numbers and names, and the server checks each.
const FIELDS = { // name in the address: field of the state
  layer: "layer", level: "level", size: "point_size", clipping: "show_clipping", both: "side_by_side", ev: "exposure",
  auto: "auto_exposure", temperature: "temperature", tint: "tint", response: "response", vignette: "vignette", lens: "lens", outside: "surroundings",
};
const DISPLAY = ["layer", "level", "point_size", "show_clipping", "side_by_side", "surroundings"];
const SETTINGS = ["exposure", "temperature", "tint", "response", "vignette", "lens"];
const DIGITS = 10; // of a camera's numbers
const MAX_DIFFERENCE = 1e-5; // of a number that is the same

const numbers = (text) => text.split(",").map(Number);
const near = (a, b) => a.every((value, i) => Math.abs(value - b[i]) <= MAX_DIFFERENCE * Math.max(1, Math.abs(b[i])));

export class Address {
  constructor({ send, onChange }) {
    Object.assign(this, { send, onChange });
    this.opening = null; // the state that every browser starts with
    this.home = null; // the camera that it starts with, from the first hello
    this.jump = false; // whether the next change gets an entry of its own in the history
    addEventListener("popstate", () => this.restore());
  }

  get values() { return new URLSearchParams(location.hash.slice(1)); }

  // Bring back what the address says; what it does not say is as at the start.
  restore() {
    const values = this.values, state = { ...this.opening };
    for (const [name, field] of Object.entries(FIELDS)) {
      if (!values.has(name)) continue;
      const text = values.get(name), was = state[field];
      state[field] = typeof was === "boolean" ? text === "1" : typeof was === "number" ? Number(text) : text;
    }
    const part = (type, names) => this.send({ type, ...Object.fromEntries(names.map((name) => [name, state[name]])) });
    this.send({ type: "compare", photo: null, match: false });
    part("display", DISPLAY);
    part("settings", SETTINGS);
    if (state.auto_exposure) part("settings", ["auto_exposure"]);
    if (values.has("photo")) this.send({ type: "photo", photo: Number(values.get("photo")) });
    else if (values.has("camera")) this.sendCamera(values);
    else this.send({ type: "home" });
    this.onChange(values);
  }

  sendCamera(values) {
    const m = numbers(values.get("camera"));
    this.send({
      type: "view", camera_to_world: [...m.slice(0, 12), 0, 0, 0, 1], pivot: numbers(values.get("pivot") || ""),
      focal: Number(values.get("focal")),
    });
  }

  // The address of what is shown: `state` of the server, the newest `frame` and further values of the page.
  text(state, frame, extra) {
    const values = new URLSearchParams();
    const put = (name, value) => values.set(name, value === true ? "1" : value === false ? "0" : String(value));
    const own = { ...state, ...state.own }; // what a comparison has for the time being is the photo's
    for (const [name, field] of Object.entries(FIELDS)) {
      if (own[field] !== this.opening[field] && !(field === "exposure" && own.auto_exposure)) put(name, own[field]);
    }
    if (frame.photo !== null) put("photo", frame.photo);
    else if (!near([...frame.camera_to_world, frame.focal], [...this.home.camera_to_world, this.home.focal])) {
      const list = (array) => array.map((value) => Number(value.toPrecision(DIGITS))).join(",");
      put("camera", list(frame.camera_to_world.slice(0, 12)));
      put("pivot", list(frame.pivot));
      put("focal", Number(frame.focal.toPrecision(DIGITS)));
    }
    for (const [name, value] of Object.entries(extra)) if (value !== undefined) put(name, value);
    return decodeURIComponent(values.toString());
  }

  write(text) {
    if (text === location.hash.slice(1)) return;
    history[this.jump ? "pushState" : "replaceState"](null, "", text ? `#${text}` : location.pathname + location.search);
    this.jump = false;
  }
}
