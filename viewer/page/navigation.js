// Navigation by mouse, touch and keyboard: motions are summed and sent once per display frame.

const FLY_KEYS = { KeyW: [0, 0, 1], KeyS: [0, 0, -1], KeyA: [-1, 0, 0], KeyD: [1, 0, 0], KeyQ: [0, 1, 0], KeyE: [0, -1, 0] };
const TURN_KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const FLY_SPEED = 0.6; // scene scales per second
const FAST_FACTOR = 4; // with Shift held
const TURN_SPEED = 0.35; // image heights per second
const WHEEL_PIXELS = 700; // scrolling by this much divides the distance by e
const LINE_PIXELS = 30; // of a wheel that counts in lines
const CLICK_PIXELS = 4; // a press that moves less than this is a click
const TOUCH_CLICK_PIXELS = 12; // likewise of a finger
const ZOOM_STEP = 0.15; // of the keys + and -
const TYPING = "input:not([type=checkbox]):not([type=range]), select, textarea"; // in which letters are text
const OWN_ARROWS = `${TYPING}, input[type=range], [role=slider]`; // that use the arrow keys themselves
const MOUSE = [["drag", "orbit"], ["right drag", "pan"], ["Ctrl + drag", "turn"], ["wheel", "zoom"], ["double click", "set the pivot"], ["click on a camera", "go to its photo"]];
const TOUCH = [["one finger", "orbit"], ["two fingers", "pan and zoom"], ["double tap", "set the pivot"], ["tap on a camera", "go to its photo"]];

export class Navigation {
  constructor(surface, stage, { send, onMove, onClick, onHover, onDouble }) {
    Object.assign(this, { surface, stage, send, onMove, onClick, onHover, onDouble });
    this.pending = {};
    this.pointers = new Map();
    this.held = new Set();
    this.released = false; // whether the last pointer has let go since the last tick
    this.last = performance.now();
    surface.addEventListener("pointerdown", (e) => this.down(e));
    surface.addEventListener("pointermove", (e) => this.move(e));
    for (const name of ["pointerup", "pointercancel"]) surface.addEventListener(name, (e) => this.up(e));
    surface.addEventListener("contextmenu", (e) => e.preventDefault());
    surface.addEventListener("dblclick", (e) => onDouble(e.offsetX, e.offsetY));
    surface.addEventListener("wheel", (e) => {
      e.preventDefault();
      const lines = e.deltaMode === 1 ? LINE_PIXELS : 1;
      this.add("dolly", [Math.max(-0.5, Math.min(0.5, -e.deltaY * lines / WHEEL_PIXELS))]);
    }, { passive: false });
    addEventListener("keydown", (e) => this.key(e, true));
    addEventListener("keyup", (e) => this.key(e, false));
    addEventListener("blur", () => this.held.clear());
    requestAnimationFrame((now) => this.tick(now));
  }

  key(event, pressed) {
    const known = FLY_KEYS[event.code] || TURN_KEYS[event.code] || event.code.startsWith("Shift");
    const own = event.target.closest?.(TURN_KEYS[event.code] ? OWN_ARROWS : TYPING) || document.querySelector("dialog[open]");
    if (!known || (pressed && (own || event.ctrlKey || event.metaKey || event.altKey))) return;
    if (pressed) this.held.add(event.code); else this.held.delete(event.code);
    if (TURN_KEYS[event.code] && !own) event.preventDefault();
  }

  down(event) {
    this.stage.focus({ preventScroll: true, focusVisible: false });
    this.surface.setPointerCapture(event.pointerId);
    for (const other of this.pointers.values()) other.several = true;
    this.pointers.set(event.pointerId, { x: event.offsetX, y: event.offsetY, travelled: 0, button: event.button, several: this.pointers.size > 0 });
    this.surface.classList.add("dragging");
  }

  move(event) {
    const pointer = this.pointers.get(event.pointerId);
    if (!pointer) { this.onHover(event.offsetX, event.offsetY); return; }
    const height = this.surface.clientHeight;
    const dx = (event.offsetX - pointer.x) / height, dy = (event.offsetY - pointer.y) / height;
    const others = [...this.pointers.values()].filter((p) => p !== pointer);
    if (others.length) {
      const before = Math.hypot(pointer.x - others[0].x, pointer.y - others[0].y);
      const after = Math.hypot(event.offsetX - others[0].x, event.offsetY - others[0].y);
      if (before > 10 && after > 10) this.add("dolly", [Math.log(after / before)]);
      this.add("pan", [dx / 2, dy / 2]);
    } else {
      this.add(pointer.button === 2 || pointer.button === 1 || event.shiftKey ? "pan" : event.ctrlKey ? "turn" : "orbit", [dx, dy]);
    }
    pointer.travelled += Math.hypot(event.offsetX - pointer.x, event.offsetY - pointer.y);
    pointer.x = event.offsetX;
    pointer.y = event.offsetY;
  }

  up(event) {
    const pointer = this.pointers.get(event.pointerId);
    this.pointers.delete(event.pointerId);
    if (!this.pointers.size) {
      this.surface.classList.remove("dragging");
      this.released = true;
    }
    const reach = event.pointerType === "touch" ? TOUCH_CLICK_PIXELS : CLICK_PIXELS;
    if (pointer && !pointer.several && pointer.travelled < reach && pointer.button === 0 && event.type === "pointerup") this.onClick(event.offsetX, event.offsetY);
  }

  add(name, values) {
    const sum = this.pending[name] || values.map(() => 0);
    this.pending[name] = values.map((value, i) => sum[i] + value);
  }

  tick(now) {
    const seconds = Math.min(0.1, (now - this.last) / 1000);
    this.last = now;
    const speed = this.held.has("ShiftLeft") || this.held.has("ShiftRight") ? FAST_FACTOR : 1;
    for (const code of this.held) {
      if (FLY_KEYS[code]) this.add("fly", FLY_KEYS[code].map((v) => v * FLY_SPEED * speed * seconds));
      if (TURN_KEYS[code]) this.add(speed > 1 ? "orbit" : "turn", TURN_KEYS[code].map((v) => v * TURN_SPEED * seconds));
    }
    if (Object.keys(this.pending).length) {
      this.send({ type: "move", ...this.pending });
      this.pending = {};
      this.onMove();
    }
    if (this.released && !this.held.size) this.send({ type: "rest" });
    this.released = false;
    requestAnimationFrame((t) => this.tick(t));
  }
}

// Keys that act once, and the sheet that lists all keys.
// Args: actions: [key, what it does, function] each; a space is shown as "Space".
export function bindShortcuts(sheet, list, navigation, actions) {
  const all = [...actions, ["+", "zoom in", () => navigation.add("dolly", [ZOOM_STEP])], ["-", "zoom out", () => navigation.add("dolly", [-ZOOM_STEP])]];
  const show = () => { if (!sheet.open) sheet.showModal(); };
  const held = [["← → ↑ ↓", "turn the camera"], ["Shift + arrows", "orbit about the pivot"], ["W A S D Q E", "fly; faster with Shift"], ["Tab, then arrows", "move the divider, a slider or a key frame"], ["?", "this list"]];
  const row = (key, text) => {
    const cap = document.createElement("kbd"), words = document.createElement("span");
    cap.textContent = key === " " ? "Space" : key.length === 1 ? key.toUpperCase() : key;
    words.textContent = text;
    return [cap, words];
  };
  const title = (text) => Object.assign(document.createElement("h3"), { textContent: text });
  list.append(title("Keys"), ...held.concat(all).flatMap(([key, text]) => row(key, text)));
  for (const [name, gestures] of [["Mouse", MOUSE], ["Touch", TOUCH]]) list.append(title(name), ...gestures.flatMap(([gesture, text]) => row(gesture, text)));
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || sheet.open || event.target.closest?.(TYPING)) return;
    if (event.key === " " && event.target.closest?.("button, input, [role=slider], a")) return; // it presses that
    if (event.key === "?") show();
    const action = all.find(([key]) => key === event.key.toLowerCase());
    if (!action && event.key !== "?") return;
    event.preventDefault();
    action?.[2]();
  });
  return show;
}

// What the pointer of this machine does, in a line.
export const gestureHint = () => (matchMedia("(pointer: coarse)").matches
  ? "One finger orbits · two fingers pan and zoom · double tap sets the pivot · a tap on a camera goes to its photo"
  : "Drag to orbit · right-drag to pan · scroll to zoom · WASD and QE to fly · double-click to set the pivot · ? for all keys");
