// The captured cameras and the camera path as lines over the picture, by the camera that the picture has.

function multiply(m, p) { // [4x4 by rows] times a point
  return [0, 4, 8].map((r) => m[r] * p[0] + m[r + 1] * p[1] + m[r + 2] * p[2] + m[r + 3]);
}

function toCamera(m, p) { // inverse of a rigid camera_to_world
  const d = [p[0] - m[3], p[1] - m[7], p[2] - m[11]];
  return [0, 1, 2].map((c) => m[c] * d[0] + m[4 + c] * d[1] + m[8 + c] * d[2]);
}

export class Overlay {
  constructor(canvas, hooks) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.hooks = hooks; // image(i): a photo's thumbnail, loaded
    this.photos = [];
    this.keys = [];
    this.way = [];
    this.spots = [];
    this.scale = 1;
    this.visible = true;
    this.hovered = null;
  }

  // Where the picture lies on the stage: the largest rectangle of its shape.
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
    this.spots = [];
    if (!this.frame) return;
    const all = this.rectangle();
    const parts = this.frame.beside
      ? [{ ...all, width: all.width / 2 }, { ...all, x: all.x + all.width / 2, width: all.width / 2 }] : [all];
    for (const part of parts) this.part(part);
    if (this.frame.beside) {
      c.fillStyle = "#0a0b0d";
      c.fillRect(all.x + all.width / 2 - 1, all.y, 2, all.height);
    }
  }

  part(area) {
    const c = this.context;
    c.save();
    c.beginPath();
    c.rect(area.x, area.y, area.width, area.height);
    c.clip();
    if (this.visible) {
      const size = 0.055 * this.scale;
      const order = this.photos.map((photo, i) => [toCamera(this.frame.camera_to_world, [3, 7, 11].map((k) => photo.camera_to_world[k]))[2], i]);
      order.sort((a, b) => b[0] - a[0]);
      for (const [depth, i] of order) if (depth > 0.02 * this.scale) this.frustum(area, i, size);
    }
    if (this.keys.length) this.path(area);
    c.restore();
  }

  project(area, point) {
    const [x, y, z] = toCamera(this.frame.camera_to_world, point);
    if (z < 1e-3 * this.scale) return null;
    const f = this.frame.focal * area.height / z;
    return [area.x + area.width / 2 + f * x, area.y + area.height / 2 + f * y];
  }

  frustum(area, i, size) {
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
    this.spots.push({ photo: i, x: middle[0], y: middle[1], reach: Math.max(12, Math.hypot(corners[0][0] - corners[2][0], corners[0][1] - corners[2][1]) / 2) });
  }

  path(area) {
    const c = this.context;
    c.strokeStyle = "#e9a655cc";
    c.fillStyle = "#e9a655";
    c.lineWidth = 2;
    c.beginPath();
    let pen = false;
    for (const place of this.way) {
      const p = this.project(area, place);
      if (p) { if (pen) c.lineTo(...p); else c.moveTo(...p); }
      pen = !!p;
    }
    c.stroke();
    for (const key of this.keys) {
      const p = this.project(area, [3, 7, 11].map((k) => key.camera_to_world[k]));
      if (p) { c.beginPath(); c.arc(...p, 4, 0, 7); c.fill(); }
    }
  }

  // The photo whose frustum lies under a place of the stage, nearest last drawn first.
  pick(x, y) {
    for (let k = this.spots.length - 1; k >= 0; k--) {
      const spot = this.spots[k];
      if (Math.hypot(spot.x - x, spot.y - y) <= spot.reach && spot.photo !== this.frame.photo) return spot.photo;
    }
    return null;
  }
}
