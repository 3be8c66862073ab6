// Lines over the image: the captured cameras and the camera path, projected by the camera of the image.

const FRUSTUM_SIZE = 0.055; // depth of a drawn camera, in scene scales
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
    if (this.keys.length) this.drawPath(area);
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

  // The photo whose frustum is at a position on the stage; the nearest one, which is drawn last, wins.
  pick(x, y) {
    for (let k = this.markers.length - 1; k >= 0; k--) {
      const marker = this.markers[k];
      if (Math.hypot(marker.x - x, marker.y - y) <= marker.radius && marker.photo !== this.frame.photo) return marker.photo;
    }
    return null;
  }
}
