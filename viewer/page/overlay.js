// Lines over the image: the captured cameras and the camera path, projected by the camera of the image.

const FRUSTUM_SIZE = 0.055; // depth of a drawn camera, in scene scales
const MAX_PIN = 40; // characters of a note that are drawn
const MIN_FRUSTUM_DEPTH = 0.02; // of the camera centres that are drawn, in scene scales

function multiply(m, p) { // a 4x4 matrix, row by row, times a point
  return [0, 4, 8].map((r) => m[r] * p[0] + m[r + 1] * p[1] + m[r + 2] * p[2] + m[r + 3]);
}

function toCamera(m, p) { // a world point in the axes of a rigid camera_to_world
  const d = [p[0] - m[3], p[1] - m[7], p[2] - m[11]];
  return [0, 1, 2].map((c) => m[c] * d[0] + m[4 + c] * d[1] + m[8 + c] * d[2]);
}

export class Overlay {
  constructor(canvas, hooks) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.hooks = hooks; // image(i): the thumbnail of photo i, or null until it has loaded
    this.photos = [];
    this.keys = [];
    this.curve = [];
    this.markers = [];
    this.scale = 1;
    this.visible = true;
    this.hovered = null;
    this.boxes = []; // { corners: [8][3], colour }: the bits of a corner's number are its sides
    this.line = { points: [], label: "" }; // that is measured
    this.notes = []; // { position, text }
  }

  // The rectangle of the stage that the image covers: the largest one with its aspect ratio.
  rectangle() {
    const { clientWidth: w, clientHeight: h } = this.canvas;
    if (!this.frame) return { x: 0, y: 0, width: w, height: h };
    const aspect = this.frame.width / this.frame.height;
    const width = Math.min(w, h * aspect), height = width / aspect;
    return { x: (w - width) / 2, y: (h - height) / 2, width, height };
  }

  draw(frame) {
    this.frame = frame || this.frame;
    const ratio = devicePixelRatio || 1;
    const { clientWidth: w, clientHeight: h } = this.canvas;
    if (this.canvas.width !== Math.round(w * ratio) || this.canvas.height !== Math.round(h * ratio)) {
      this.canvas.width = Math.round(w * ratio);
      this.canvas.height = Math.round(h * ratio);
    }
    const c = this.context;
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.clearRect(0, 0, w, h);
    this.markers = [];
    if (!this.frame) return;
    const whole = this.rectangle();
    const parts = this.frame.side_by_side
      ? [{ ...whole, width: whole.width / 2 }, { ...whole, x: whole.x + whole.width / 2, width: whole.width / 2 }] : [whole];
    for (const part of parts) this.drawPart(part);
    if (this.frame.side_by_side) {
      c.fillStyle = "#0a0b0d";
      c.fillRect(whole.x + whole.width / 2 - 1, whole.y, 2, whole.height);
    }
  }

  drawPart(area) {
    const c = this.context;
    c.save();
    c.beginPath();
    c.rect(area.x, area.y, area.width, area.height);
    c.clip();
    if (this.visible) {
      const size = FRUSTUM_SIZE * this.scale;
      const order = this.photos.map((photo, i) => [toCamera(this.frame.camera_to_world, [3, 7, 11].map((k) => photo.camera_to_world[k]))[2], i]);
      order.sort((a, b) => b[0] - a[0]);
      for (const [depth, i] of order) if (depth > MIN_FRUSTUM_DEPTH * this.scale) this.drawFrustum(area, i, size);
    }
    for (const box of this.boxes) this.drawBox(area, box);
    if (this.keys.length) this.drawPath(area);
    this.drawNotes(area);
    c.restore();
  }

  project(area, point) {
    const [x, y, z] = toCamera(this.frame.camera_to_world, point);
    if (z < 1e-3 * this.scale) return null;
    const f = this.frame.focal * area.height / z;
    return [area.x + area.width / 2 + f * x, area.y + area.height / 2 + f * y];
  }

  drawFrustum(area, i, size) {
    const photo = this.photos[i], half = 0.5 / photo.focal;
    const corners = [[-1, -1], [1, -1], [1, 1], [-1, 1]].map(([x, y]) =>
      this.project(area, multiply(photo.camera_to_world, [x * half * photo.aspect * size, y * half * size, size])));
    const tip = this.project(area, [3, 7, 11].map((k) => photo.camera_to_world[k]));
    if (!tip || corners.some((p) => !p)) return;
    const c = this.context, current = this.frame.photo === i, hovered = this.hovered === i;
    const image = this.hooks.image(i);
    if (image) {
      const [a, b, , d] = corners;
      c.save();
      c.globalAlpha = hovered ? 1 : 0.75;
      c.transform((b[0] - a[0]) / image.naturalWidth, (b[1] - a[1]) / image.naturalWidth,
        (d[0] - a[0]) / image.naturalHeight, (d[1] - a[1]) / image.naturalHeight, a[0], a[1]);
      c.drawImage(image, 0, 0);
      c.restore();
    }
    c.strokeStyle = current ? "#e9a655" : hovered ? "#fff" : photo.held_out ? "#7fc8ffcc" : "#ffffffa8";
    c.lineWidth = current || hovered ? 2 : 1;
    c.beginPath();
    corners.forEach((p, k) => (k ? c.lineTo(...p) : c.moveTo(...p)));
    c.closePath();
    for (const p of corners) { c.moveTo(...tip); c.lineTo(...p); }
    c.stroke();
    const middle = corners.reduce((s, p) => [s[0] + p[0] / 4, s[1] + p[1] / 4], [0, 0]);
    this.markers.push({ photo: i, x: middle[0], y: middle[1], radius: Math.max(12, Math.hypot(corners[0][0] - corners[2][0], corners[0][1] - corners[2][1]) / 2) });
  }

  drawPath(area) {
    const c = this.context;
    c.strokeStyle = "#e9a655cc";
    c.fillStyle = "#e9a655";
    c.lineWidth = 2;
    c.beginPath();
    let penDown = false;
    for (const position of this.curve) {
      const p = this.project(area, position);
      if (p) { if (penDown) c.lineTo(...p); else c.moveTo(...p); }
      penDown = !!p;
    }
    c.stroke();
    for (const key of this.keys) {
      const p = this.project(area, [3, 7, 11].map((k) => key.camera_to_world[k]));
      if (p) { c.beginPath(); c.arc(...p, 4, 0, 7); c.fill(); }
    }
  }

  // A line between two world points, as much of it as is in front of the camera.
  drawSegment(area, a, b) {
    const near = 2e-3 * this.scale;
    let [p, q] = [a, b].map((point) => toCamera(this.frame.camera_to_world, point));
    if (p[2] < near && q[2] < near) return;
    const cut = (from, to) => from.map((value, k) => value + ((near - from[2]) / (to[2] - from[2])) * (to[k] - value));
    if (p[2] < near) p = cut(p, q); else if (q[2] < near) q = cut(q, p);
    const f = this.frame.focal * area.height;
    for (const [i, [x, y, z]] of [p, q].entries()) this.context[i ? "lineTo" : "moveTo"](area.x + area.width / 2 + (f * x) / z, area.y + area.height / 2 + (f * y) / z);
  }

  drawBox(area, { corners, colour }) {
    this.context.strokeStyle = colour;
    this.context.lineWidth = 1.5;
    this.context.beginPath();
    for (let i = 0; i < 8; i++) for (const bit of [1, 2, 4]) if (!(i & bit)) this.drawSegment(area, corners[i], corners[i | bit]);
    this.context.stroke();
  }

  drawNotes(area) {
    const c = this.context, { points, label } = this.line;
    c.font = "12px system-ui";
    c.textAlign = "left";
    c.lineWidth = 2;
    c.strokeStyle = "#7fe0c3";
    c.beginPath();
    if (points.length === 2) this.drawSegment(area, ...points);
    c.stroke();
    const pin = (position, text, colour) => {
      const p = this.project(area, position);
      if (!p) return;
      if (text) {
        const width = c.measureText(text).width + 10, right = p[0] + 9 + width < area.x + area.width;
        const x = right ? p[0] + 9 : Math.max(area.x, p[0] - 9 - width);
        c.fillStyle = "#0b0d10c8";
        c.fillRect(x, p[1] - 10, width, 20);
        c.fillStyle = "#fff";
        c.fillText(text, x + 5, p[1] + 4);
      }
      c.fillStyle = colour;
      c.beginPath();
      c.arc(...p, 5, 0, 7);
      c.fill();
    };
    points.forEach((point, i) => pin(point, i === points.length - 1 ? label : "", "#7fe0c3"));
    this.notes.forEach(({ position, text }, i) => pin(position, `${i + 1}  ${text.length > MAX_PIN ? `${text.slice(0, MAX_PIN)}…` : text}`, "#ffd166"));
  }

  // The photo whose frustum is at a position on the stage; the nearest one, which is drawn last, wins.
  pick(x, y) {
    for (let k = this.markers.length - 1; k >= 0; k--) {
      const marker = this.markers[k];
      if (Math.hypot(marker.x - x, marker.y - y) <= marker.radius && marker.photo !== this.frame.photo) return marker.photo;
    }
    return null;
  }
}

const ARROW_SHARE = 0.02; // of the width, that an arrow key moves the divider

// Photo and render, divided by a line that is dragged or moved by the arrow keys.
export class Comparison {
  constructor(overlay, { box, image, handle, stage, onChange }) {
    Object.assign(this, { overlay, box, image, handle, stage, onChange });
    this.photo = null; // that is compared; null: none
    this.share = 0.5; // of the width, left of the line
    handle.onpointerdown = (e) => handle.setPointerCapture(e.pointerId);
    handle.onpointermove = (e) => {
      if (!e.buttons) return;
      const area = box.getBoundingClientRect();
      this.divide((e.clientX - area.left) / area.width);
    };
    handle.onkeydown = (e) => {
      const share = { ArrowLeft: this.share - ARROW_SHARE, ArrowRight: this.share + ARROW_SHARE, Home: 0, End: 1 }[e.key];
      if (share === undefined) return;
      e.preventDefault();
      this.divide(share);
    };
  }

  get on() { return this.photo !== null; }

  show(photo) {
    if (photo === this.photo) return;
    this.photo = photo;
    this.box.hidden = !this.on;
    this.stage.classList.toggle("comparing", this.on);
    if (this.on) { this.image.src = `photo/${photo}/large.jpg`; this.place(); }
    this.onChange(photo);
  }

  divide(share) {
    this.share = Math.max(0, Math.min(1, share));
    this.handle.setAttribute("aria-valuenow", Math.round(100 * this.share));
    this.place();
  }

  place() {
    if (!this.on) return;
    const r = this.overlay.rectangle(), width = this.overlay.frame?.side_by_side ? r.width / 2 : r.width;
    Object.assign(this.box.style, { left: `${r.x}px`, top: `${r.y}px`, width: `${width}px`, height: `${r.height}px` });
    this.image.style.clipPath = `inset(0 ${100 * (1 - this.share)}% 0 0)`;
    this.handle.style.left = `${100 * this.share}%`;
  }
}

const SIDES = [["Left", 0, "low"], ["Right", 0, "high"], ["Bottom", 1, "low"], ["Top", 1, "high"], ["Front", 2, "low"], ["Back", 2, "high"]];
const MODES = { measure: "measure", note: "pin" }; // what a click is for, and the button that says so
const REGION_COLOUR = "#7fc8ffcc", CROP_COLOUR = "#e9a655";
const byId = (id) => document.getElementById(id);

// Captured region, crop box, distances and notes: their controls, and what the overlay draws of them.
export class SceneTools {
  constructor(overlay, send, onChange) {
    Object.assign(this, { overlay, send, onChange });
    this.corners = []; // of the captured region
    this.crop = null; // the box of the server, null: none
    this.low = [0, 0, 0];
    this.high = [1, 1, 1];
    this.metres = null; // per scene unit; null: unknown
    this.mode = null; // what the next picked place is for: "measure" or "note"
    for (const [mode, id] of Object.entries(MODES)) byId(id).onclick = () => this.setMode(this.mode === mode ? null : mode);
    byId("region").onchange = () => this.draw();
    byId("crop").onchange = () => { this.sendCrop(); send({ type: "save_crop" }); };
    byId("surroundings").onchange = (e) => send({ type: "display", surroundings: e.target.value });
    byId("known").onchange = (e) => { const units = this.units(); if (units > 0) send({ type: "scale", metres_per_unit: Number(e.target.value) > 0 ? Number(e.target.value) / units : null }); };
    for (const action of ["fit", "straighten"]) byId(action).onclick = () => { onChange(); send({ type: "scene", action }); };
    byId("set-up").onclick = () => send({ type: "scene", action: "up" });
    for (const [name, axis, side] of SIDES) this.addSide(name, axis, side);
  }

  addSide(name, axis, side) {
    const row = document.createElement("label"), title = document.createElement("span"), range = document.createElement("input");
    Object.assign(range, { type: "range", min: 0, max: 1, step: 0.005, id: `crop-${name.toLowerCase()}` });
    row.className = "row";
    title.textContent = name;
    row.append(title, range);
    range.oninput = () => { this[side][axis] = Number(range.value); this.sendCrop(); };
    range.onchange = () => this.send({ type: "save_crop" });
    byId("crop-sides").append(row);
  }

  sendCrop() { this.send({ type: "crop", on: byId("crop").checked, low: this.low, high: this.high }); }

  // Show what the server says of the crop box and of what lies outside the captured region.
  showState(state) {
    this.crop = state.crop;
    byId("crop").checked = !!state.crop;
    byId("crop-sides").hidden = !state.crop;
    byId("surroundings").value = state.surroundings;
    if (state.crop) { this.low = [...state.crop.low]; this.high = [...state.crop.high]; }
    SIDES.forEach(([name, axis, side]) => { const range = byId(`crop-${name.toLowerCase()}`); if (!range.matches(":active")) range.value = this[side][axis]; });
    this.draw();
  }

  showNotes({ notes, metres_per_unit }) {
    this.metres = metres_per_unit;
    this.overlay.notes = notes;
    byId("notes").replaceChildren(...notes.map(({ text }, index) => {
      const item = document.createElement("li"), words = document.createElement("span"), button = document.createElement("button");
      words.textContent = `${index + 1}  ${text}`;
      Object.assign(button, { textContent: "✕", className: "quiet", ariaLabel: `Delete note ${index + 1}`, onclick: () => this.send({ type: "delete_note", index }) });
      item.append(words, button);
      return item;
    }));
    this.showDistance();
  }

  setMode(mode) {
    this.mode = mode;
    for (const [name, id] of Object.entries(MODES)) { byId(id).classList.toggle("accent", mode === name); byId(id).setAttribute("aria-pressed", mode === name); }
    byId("stage").classList.toggle("picking", !!mode);
    byId("hint").classList.add("gone");
    byId("note-row").hidden = mode !== "note";
    if (mode === "note") byId("note-text").focus();
    if (mode === "measure") this.overlay.line = { points: [], label: "" };
    this.showDistance();
  }

  // A place that was picked, null: nothing is there.
  picked(point) {
    if (point === null) byId("distance").textContent = "There is no surface at that place.";
    else if (this.mode === "note") {
      const text = byId("note-text").value.trim();
      if (!text) { byId("note-text").focus(); return; }
      this.send({ type: "note", position: point, text });
      byId("note-text").value = "";
      this.setMode(null);
    } else if (this.mode === "measure") {
      const points = this.overlay.line.points;
      this.overlay.line.points = points.length === 1 ? [points[0], point] : [point];
      this.showDistance();
    }
  }

  units() { const [a, b] = this.overlay.line.points; return b ? Math.hypot(...a.map((value, k) => value - b[k])) : 0; }

  showDistance() {
    const units = this.units(), text = this.metres ? `${(units * this.metres).toPrecision(4)} m` : `${units.toPrecision(4)} scene units`;
    this.overlay.line.label = units ? text : "";
    byId("distance").textContent = units ? `Distance: ${text}` : this.mode === "measure" ? "Click two places." : "";
    byId("known-row").hidden = !units;
    if (units && document.activeElement !== byId("known")) byId("known").value = this.metres ? (units * this.metres).toPrecision(4) : "";
    this.draw();
  }

  draw() {
    const region = byId("region").checked ? [{ corners: this.corners, colour: REGION_COLOUR }] : [];
    this.overlay.boxes = this.crop ? [...region, { corners: this.crop.corners, colour: CROP_COLOUR }] : region;
    this.overlay.draw();
  }
}
