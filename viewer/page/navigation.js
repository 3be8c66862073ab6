// Navigation by mouse, touch and keyboard: motions are summed and sent once per display frame.

const FLY_KEYS = { KeyW: [0, 0, 1], KeyS: [0, 0, -1], KeyA: [-1, 0, 0], KeyD: [1, 0, 0], KeyQ: [0, 1, 0], KeyE: [0, -1, 0] };
const TURN_KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const FLY_SPEED = 0.6; // scene scales per second
const FAST_FACTOR = 4; // with Shift held
const TURN_SPEED = 0.35; // image heights per second
const WHEEL_PIXELS = 700; // scrolling by this much divides the distance by e
const LINE_PIXELS = 30; // of a wheel that counts in lines
const CLICK_PIXELS = 4; // a press that moves less than this is a click

export class Navigation {
  constructor(surface, stage, { send, onMove, onClick, onHover, onDouble }) {
    Object.assign(this, { surface, stage, send, onMove, onClick, onHover, onDouble });
    this.pending = {};
    this.pointers = new Map();
    this.held = new Set();
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
    const typing = event.target.closest?.("input, select, textarea");
    if (!known || (pressed && (typing || event.ctrlKey || event.metaKey || event.altKey))) return;
    if (pressed) this.held.add(event.code); else this.held.delete(event.code);
    if (TURN_KEYS[event.code] && !typing) event.preventDefault();
  }

  down(event) {
    this.stage.focus({ preventScroll: true });
    this.surface.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, { x: event.offsetX, y: event.offsetY, travelled: 0, button: event.button });
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
    if (!this.pointers.size) this.surface.classList.remove("dragging");
    if (pointer && pointer.travelled < CLICK_PIXELS && pointer.button === 0 && event.type === "pointerup") this.onClick(event.offsetX, event.offsetY);
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
      if (TURN_KEYS[code]) this.add("turn", TURN_KEYS[code].map((v) => v * TURN_SPEED * seconds));
    }
    if (Object.keys(this.pending).length) {
      this.send({ type: "move", ...this.pending });
      this.pending = {};
      this.onMove();
    }
    requestAnimationFrame((t) => this.tick(t));
  }
}
