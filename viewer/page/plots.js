// Small plots: histogram and response, training curves, and the time of a frame's stages.

const FILMIC_WHITE = 7.24; // sensor light at which the filmic curve reaches white, as in camera_settings.py
const STAGES = { // name and colour
  wait: ["wait", "#5d6675"], picture: ["picture", "#6cc28a"], points: ["points", "#6cc28a"],
  network: ["network", "#e9a655"], develop: ["develop", "#d77a8f"], encode: ["JPEG", "#a58ad6"],
};

// Size a canvas for the display and return its context, with coordinates in CSS pixels.
function prepare(canvas) {
  const ratio = devicePixelRatio || 1, width = canvas.clientWidth, height = Number(canvas.getAttribute("data-height") || canvas.height);
  canvas.setAttribute("data-height", height);
  canvas.style.height = `${height}px`;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const c = canvas.getContext("2d");
  c.setTransform(ratio, 0, 0, ratio, 0, 0);
  return { c, width, height };
}

// The histogram of the sensor light in stops, with the response curves over it. The red area is clipped.
export function drawLight(canvas, { histogram, curves, response }) {
  const { c, width, height } = prepare(canvas);
  const [low, high] = curves.stops, bottom = height - 14;
  const x = (stop) => ((stop - low) / (high - low)) * width;
  c.globalCompositeOperation = "lighter";
  const most = Math.max(0.02, ...histogram.bins.flat().map((v) => Math.sqrt(v)));
  histogram.bins.forEach((bins, channel) => {
    c.fillStyle = ["#6b2b2b", "#2a5c33", "#2f4076"][channel];
    c.beginPath();
    c.moveTo(0, bottom);
    bins.forEach((share, i) => {
      const top = bottom - (Math.sqrt(share) / most) * (bottom - 4);
      c.lineTo((i / bins.length) * width, top);
      c.lineTo(((i + 1) / bins.length) * width, top);
    });
    c.lineTo(width, bottom);
    c.fill();
  });
  c.globalCompositeOperation = "source-over";
  const values = curves.values[response];
  values.forEach((row, channel) => {
    c.strokeStyle = ["#ff9d9d", "#a9f0b0", "#a9c0ff"][channel];
    c.lineWidth = 1.5;
    c.beginPath();
    row.forEach((value, i) => {
      const p = [(i / (row.length - 1)) * width, bottom - value * (bottom - 4)];
      if (i) c.lineTo(...p); else c.moveTo(...p);
    });
    c.stroke();
  });
  const clip = x(response === "filmic" ? Math.log2(FILMIC_WHITE) : 0);
  c.fillStyle = "#ff5c7a22";
  c.fillRect(clip, 0, width - clip, bottom);
  c.fillStyle = "#ff5c7a";
  c.fillRect(clip - 0.5, 0, 1.5, bottom);
  c.fillStyle = "#7d8694";
  c.font = "10px system-ui";
  c.textAlign = "center";
  for (let stop = -8; stop <= 2; stop += 2) c.fillText(stop, x(stop), height - 3);
}

// Loss (amber) and PSNR (blue), both smoothed, each with its own scale.
export function drawCurves(canvas, rows) {
  const { c, width, height } = prepare(canvas);
  if (rows.length < 2) return;
  const smooth = (column) => {
    let value = rows[0][column];
    const weight = Math.min(1, 12 / rows.length + 0.08);
    return rows.map((row) => (value += weight * (row[column] - value)));
  };
  const left = 4, right = width - 4, bottom = height - 15, first = rows[0][1], last = rows[rows.length - 1][1];
  const line = (values, colour, align) => {
    const sorted = [...values].sort((a, b) => a - b);
    const low = sorted[0], high = sorted[Math.floor(0.98 * (sorted.length - 1))];
    c.strokeStyle = c.fillStyle = colour;
    c.lineWidth = 1.6;
    c.beginPath();
    values.forEach((value, i) => {
      const px = left + ((rows[i][1] - first) / Math.max(1, last - first)) * (right - left);
      const py = bottom - Math.min(1, (value - low) / Math.max(1e-9, high - low)) * (bottom - 18);
      if (i) c.lineTo(px, py); else c.moveTo(px, py);
    });
    c.stroke();
    c.textAlign = align;
    const text = align === "left" ? `loss ${values[values.length - 1].toFixed(4)}` : `${values[values.length - 1].toFixed(2)} dB`;
    c.fillText(text, align === "left" ? left + 2 : right - 2, 11);
  };
  c.font = "11px system-ui";
  line(smooth(2), "#e9a655", "left");
  line(smooth(3), "#7fc8ff", "right");
  c.fillStyle = "#7d8694";
  c.font = "10px system-ui";
  c.textAlign = "left";
  c.fillText(`step ${first}`, left, height - 3);
  c.textAlign = "right";
  c.fillText(last, right, height - 3);
}

// The time of each stage of a frame, as a bar with a legend.
export function drawStages(bar, stages) {
  const total = Object.values(stages).reduce((a, b) => a + b, 0) || 1;
  let names = bar.nextElementSibling;
  if (!names) { names = document.createElement("div"); names.className = "names"; bar.after(names); }
  bar.replaceChildren();
  names.replaceChildren();
  for (const [key, [name, colour]] of Object.entries(STAGES)) {
    if (!(key in stages)) continue;
    const part = document.createElement("i");
    part.style.width = `${(100 * stages[key]) / total}%`;
    part.style.background = colour;
    bar.append(part);
    const label = document.createElement("span"), dot = document.createElement("i");
    dot.style.background = colour;
    label.append(dot, `${name} ${(1000 * stages[key]).toFixed(stages[key] < 0.01 ? 1 : 0)} ms`);
    names.append(label);
  }
}
