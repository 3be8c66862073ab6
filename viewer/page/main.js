// The page: what the controls say goes to the server, what the server says goes to the canvas and the controls.

import { Link } from "/link.js";
import { Overlay } from "/overlay.js";
import { drawCurves, drawLight, drawStages } from "/plots.js";
import { Steer } from "/steer.js";
import { Timeline } from "/timeline.js";

const $ = (id) => document.getElementById(id);
const COLD = 2000, HOT = 12000; // kelvin at the ends of the slider
const shown = { hello: null, state: null, frame: null, rows: [], times: [], moving: [], frames: 0, histogram: null };

const link = new Link({ onMessage, onFrame, onFile, onState });
const send = (message) => link.send(message);
let marks = 0;
// For the curious, and for tests: a picture with a mark shows everything that was sent before the mark.
window.adop = Object.assign(shown, { send, mark: () => { send({ type: "mark", mark: ++marks }); return marks; }, spots: () => overlay.spots });
const thumbnails = [];
const overlay = new Overlay($("overlay"), { image: (i) => (thumbnails[i]?.complete && thumbnails[i].naturalWidth ? thumbnails[i] : null) });
const timeline = new Timeline({ send, view: () => shown.frame, onKeys: (keys) => { overlay.keys = keys; overlay.draw(); }, toast });
new Steer($("overlay"), $("stage"), {
  send,
  onMove: () => { $("hint").classList.add("gone"); if (timeline.playing) timeline.play(false); },
  onClick: (x, y) => { const photo = overlay.pick(x, y); if (photo !== null && overlay.visible) goToPhoto(photo); },
  onHover: (x, y) => {
    const photo = overlay.visible ? overlay.pick(x, y) : null;
    if (photo === overlay.hovered) return;
    overlay.hovered = photo;
    $("overlay").classList.toggle("pick", photo !== null);
    overlay.draw();
  },
  onDouble: (x, y) => {
    const r = overlay.rectangle(), half = shown.frame?.beside ? r.width / 2 : r.width;
    const u = ((x - r.x) % half) / half, v = (y - r.y) / r.height;
    if (u >= 0 && v >= 0 && v <= 1) send({ type: "pivot", u, v });
  },
});

function onState(open) {
  $("lost").hidden = open || !shown.hello;
  if (open) { sendSize(); if (timeline.keys.length) timeline.tell(); }
}

function onMessage(message) {
  if (message.type === "hello") greet(message);
  else if (message.type === "state") takeState(message);
  else if (message.type === "saved") timeline.saved(message);
  else if (message.type === "error") toast(message.message, true);
  else if (message.type === "status") { timeline.exported(message.export); training(message.training); }
  else if (message.type === "history") {
    shown.rows.push(...message.rows);
    if (shown.rows.length > 3000) shown.rows = shown.rows.filter((_, i) => i % 2);
    drawCurves($("curves"), shown.rows);
  }
}

function greet(hello) {
  shown.hello = hello;
  shown.rows = [];
  document.title = `adop · ${hello.scene}`;
  $("scene").textContent = hello.scene;
  $("where").textContent = `${hello.points.toLocaleString("en")} points · ${hello.photos.length} photos${hello.trained ? "" : " · not trained yet"}`;
  $("level").max = hello.levels - 1;
  overlay.photos = hello.photos;
  overlay.scale = hello.scale;
  if (!$("photos").children.length) fillStrip(hello.photos);
  timeline.saved({ paths: hello.paths });
}

function fillStrip(photos) {
  $("photos").append(...photos.map((photo, i) => {
    const button = document.createElement("button"), image = new Image();
    if (photos.length > 200) image.loading = "lazy"; // of a large scene, those that are looked at
    image.src = `/photo/${i}/small.jpg`;
    image.alt = photo.name;
    image.onload = () => overlay.draw();
    thumbnails[i] = image;
    button.append(image);
    button.title = photo.name + (photo.held_out ? " (held out of training)" : "");
    if (photo.held_out) { const dot = document.createElement("i"); dot.className = "held"; button.append(dot); }
    button.onclick = () => goToPhoto(i);
    return button;
  }));
}

function goToPhoto(photo) {
  send({ type: "photo", photo });
}

function takeState(state) {
  shown.state = state;
  $("layer").value = state.layer;
  const view = state.beside ? "beside" : state.layer === "points" ? "points" : state.layer === "neural" ? "neural" : "";
  for (const button of $("views").children) button.classList.toggle("on", button.dataset.view === view);
  for (const button of $("responses").children) button.classList.toggle("on", button.dataset.response === state.response);
  $("level-row").hidden = !["base", "level", "depth", "weight", "mask"].includes(state.layer);
  $("size-row").hidden = !(state.layer === "points" || state.beside);
  set("level", state.level, state.level);
  set("point-size", Math.log2(state.point_size), `${state.point_size} px`);
  showExposure(state.exposure);
  set("temperature", Math.log(state.temperature / COLD) / Math.log(HOT / COLD), `${state.temperature} K`);
  set("tint", state.tint, state.tint.toFixed(2));
  set("fov", state.fov, `${state.fov.toFixed(0)}°`);
  set("rate", state.rate, state.rate);
  for (const name of ["auto", "vignette", "clipping"]) $(name).checked = state[name];
  if (state.loaded || !timeline.keys.length) timeline.take(state.path);
  overlay.way = state.path.way;
  overlay.draw();
  photoChanged(state.photo);
}

function set(id, value, text) {
  if (document.activeElement !== $(id) || !$(id).matches(":active")) $(id).value = value;
  $(`${id === "point-size" ? "size" : id}-out`).textContent = text;
}

function showExposure(exposure) {
  const stops = -exposure || 0;
  set("brightness", stops, `${stops > 0 ? "+" : ""}${stops.toFixed(2)}`);
}

let atPhoto = null;
function photoChanged(photo) {
  if (photo === atPhoto) return;
  [...$("photos").children].forEach((button, i) => button.classList.toggle("on", i === photo));
  if (photo !== null) {
    $("photo-name").textContent = shown.hello.photos[photo].name;
    $("photos").children[photo]?.scrollIntoView({ block: "nearest", inline: "nearest" });
    lastPhoto = photo;
  } else compare(false);
  atPhoto = photo;
  $("compare-button").disabled = photo === null;
  $("expose-button").disabled = lastPhoto === null;
  if (!$("compare").hidden) compare(true);
}
let lastPhoto = null;

// Photo and render, one over the other.
let share = 0.5;
function compare(on) {
  $("compare").hidden = !on;
  $("stage").classList.toggle("comparing", on);
  $("compare-button").classList.toggle("accent", on);
  if (!on) return;
  const source = `/photo/${atPhoto}/large.jpg`;
  if (!$("compare-photo").src.endsWith(source)) $("compare-photo").src = source;
  layCompare();
}

function layCompare() {
  const r = overlay.rectangle(), half = shown.frame?.beside ? r.width / 2 : r.width;
  Object.assign($("compare").style, { left: `${r.x}px`, top: `${r.y}px`, width: `${half}px`, height: `${r.height}px` });
  $("compare-photo").style.clipPath = `inset(0 ${100 * (1 - share)}% 0 0)`;
  $("compare-handle").style.left = `${100 * share}%`;
}
$("compare-handle").onpointerdown = (e) => $("compare-handle").setPointerCapture(e.pointerId);
$("compare-handle").onpointermove = (e) => {
  if (!e.buttons) return;
  const box = $("compare").getBoundingClientRect();
  share = Math.max(0, Math.min(1, (e.clientX - box.left) / box.width));
  layCompare();
};
$("compare-button").onclick = () => compare($("compare").hidden);
$("expose-button").onclick = () => send({ type: "expose", photo: lastPhoto });

function onFrame(header, bitmap) {
  const canvas = $("picture");
  if (canvas.width !== header.width || canvas.height !== header.height) {
    canvas.width = header.width;
    canvas.height = header.height;
  }
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  shown.frame = header;
  shown.frames += 1;
  if (shown.state?.auto || timeline.playing) showExposure(header.exposure);
  photoChanged(header.photo);
  overlay.draw(header);
  if (!$("compare").hidden) layCompare();
  figures(header);
}

function figures(header) {
  const now = performance.now();
  shown.times.push(now);
  shown.moving.push(header.moving);
  while (shown.times.length > 1 && now - shown.times[0] > 2000) { shown.times.shift(); shown.moving.shift(); }
  const moving = shown.times.filter((_, i) => shown.moving[i]);
  if (header.moving && moving.length > 3) $("fps").textContent = (((moving.length - 1) * 1000) / (moving.at(-1) - moving[0])).toFixed(0);
  $("pixels").textContent = `${header.width}×${header.height}`;
  $("pixels-note").textContent = header.moving && header.scale < 1 ? `${Math.round(100 * header.scale)} %` : "full";
  $("note").textContent = header.note;
  if (header.rendered) drawStages($("stages"), header.stages);
  if (now - (shown.plotted || 0) < 90 && header.moving) return;
  shown.plotted = now;
  shown.histogram = header.histogram;
  drawLight($("light"), { histogram: header.histogram, curves: shown.hello.curves, response: shown.state.response });
  const percent = (v) => (v > 0 && v < 0.001 ? "< 0.1 %" : `${(100 * v).toFixed(1)} %`);
  $("clipped").textContent = `${percent(header.histogram.clipped)} white`;
  $("clipped").classList.toggle("alarm", header.histogram.clipped > 0.02);
  $("black").textContent = `${percent(header.histogram.black)} black`;
}

function onFile(header, blob) {
  const anchor = document.createElement("a");
  anchor.href = URL.createObjectURL(blob);
  anchor.download = header.name;
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(anchor.href), 10000);
}

function training(status) {
  if (status.live && $("panel").firstElementChild !== $("training")) $("panel").prepend($("training"));
  $("training").hidden = !status.live && !shown.rows.length;
  $("training-buttons").hidden = !status.live;
  $("training-state").textContent = status.live ? `step ${status.step}${status.paused ? ", paused" : `, ${status.speed.toFixed(1)}/s`}` : `${status.step} steps`;
  $("pause").textContent = status.paused ? "Resume" : "Pause";
  $("pause").onclick = () => send({ type: "learn", action: status.paused ? "resume" : "pause" });
  $("save-run").onclick = () => { send({ type: "learn", action: "save" }); toast("A checkpoint is saved after this step."); };
}

let toasted;
function toast(text, bad = false) {
  $("toast").textContent = text;
  $("toast").classList.toggle("bad", bad);
  $("toast").hidden = false;
  clearTimeout(toasted);
  toasted = setTimeout(() => { $("toast").hidden = true; }, 4500);
}

// The canvas asks for as many pixels as it shows, up to a limit that the machine can draw.
function sendSize() {
  const { clientWidth: w, clientHeight: h } = $("stage");
  const limit = shown.hello?.device === "cuda" ? 1920 : 1280;
  const ratio = Math.min(devicePixelRatio || 1, limit / Math.max(w, h, 1));
  send({ type: "size", width: Math.round(w * ratio), height: Math.round(h * ratio) });
}
new ResizeObserver(() => { sendSize(); overlay.draw(); if (!$("compare").hidden) layCompare(); }).observe($("stage"));

for (const button of $("views").children) {
  button.onclick = () => {
    const view = button.dataset.view;
    send({ type: "show", beside: view === "beside", layer: view === "points" ? "points" : "neural" });
  };
}
for (const button of $("responses").children) button.onclick = () => send({ type: "look", response: button.dataset.response });
$("layer").onchange = (e) => send({ type: "show", layer: e.target.value, beside: false });
$("level").oninput = (e) => send({ type: "show", level: Number(e.target.value) });
$("point-size").oninput = (e) => send({ type: "show", point_size: 2 ** Number(e.target.value) });
$("cameras").onchange = (e) => { overlay.visible = e.target.checked; overlay.draw(); };
$("clipping").onchange = (e) => send({ type: "show", clipping: e.target.checked });
$("brightness").oninput = (e) => send({ type: "look", exposure: -Number(e.target.value) });
$("auto").onchange = (e) => send({ type: "look", auto: e.target.checked });
$("vignette").onchange = (e) => send({ type: "look", vignette: e.target.checked });
$("temperature").oninput = (e) => send({ type: "look", temperature: COLD * (HOT / COLD) ** Number(e.target.value) });
$("tint").oninput = (e) => send({ type: "look", tint: Number(e.target.value) });
$("reset-look").onclick = () => send({ type: "look", exposure: 0, temperature: 6500, tint: 0, vignette: false, response: "learned" });
$("fov").oninput = (e) => send({ type: "move", focal: 0.5 / Math.tan((Number(e.target.value) * Math.PI) / 360) });
$("fov").addEventListener("input", (e) => { $("fov-out").textContent = `${Number(e.target.value).toFixed(0)}°`; });
$("rate").oninput = (e) => send({ type: "rate", rate: Number(e.target.value) });
$("home").onclick = () => send({ type: "home" });
$("save-png").onclick = () => send({ type: "snapshot", kind: "png" });
$("save-exr").onclick = () => send({ type: "snapshot", kind: "exr" });
for (const button of document.querySelectorAll("footer nav button")) {
  button.onclick = () => {
    for (const other of document.querySelectorAll("footer nav button")) other.classList.toggle("on", other === button);
    $("photos").hidden = button.dataset.tab !== "photos";
    $("path").hidden = button.dataset.tab !== "path";
    timeline.show();
  };
}
