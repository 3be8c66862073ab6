// The page: sends what the controls say to the server, and shows what the server answers.

import { Connection } from "./connection.js";
import { Navigation } from "./navigation.js";
import { Overlay } from "./overlay.js";
import { drawCurves, drawLight, drawStages } from "./plots.js";
import { Timeline } from "./timeline.js";

const $ = (id) => document.getElementById(id);
const MIN_TEMPERATURE = 2000, MAX_TEMPERATURE = 12000; // kelvin at the ends of the slider
const MAX_ROWS = 3000; // of the training curves
const LAZY_PHOTOS = 200; // scenes with more photos load only those thumbnails that are scrolled into view
const FPS_MS = 2000; // over which frames per second are averaged
const PLOT_MS = 90; // between updates of the histogram during motion
const TOAST_MS = 4500;
const page = { hello: null, state: null, frame: null, rows: [], times: [], moving: [], frames: 0, histogram: null };

const connection = new Connection({ onMessage, onFrame, onFile, onState });
const send = (message) => connection.send(message);
let marks = 0;
// For tests and the console. A frame with a mark shows everything that was sent before the mark.
window.adop = Object.assign(page, { send, mark: () => { send({ type: "mark", mark: ++marks }); return marks; }, markers: () => overlay.markers });
const thumbnails = [];
const overlay = new Overlay($("overlay"), { image: (i) => (thumbnails[i]?.complete && thumbnails[i].naturalWidth ? thumbnails[i] : null) });
const timeline = new Timeline({ send, view: () => page.frame, onKeys: (keys) => { overlay.keys = keys; overlay.draw(); }, toast });
new Navigation($("overlay"), $("stage"), {
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
    const r = overlay.rectangle(), half = page.frame?.side_by_side ? r.width / 2 : r.width;
    const u = ((x - r.x) % half) / half, v = (y - r.y) / r.height;
    if (u >= 0 && v >= 0 && v <= 1) send({ type: "pivot", u, v });
  },
});

function onState(open) {
  $("disconnected").hidden = open || !page.hello;
  if (open) { sendSize(); if (timeline.keys.length) timeline.sendPath(); }
}

function onMessage(message) {
  if (message.type === "hello") showHello(message);
  else if (message.type === "state") showState(message);
  else if (message.type === "saved") timeline.showSaved(message);
  else if (message.type === "error") toast(message.message, true);
  else if (message.type === "status") { timeline.showExport(message.export); showTraining(message.training); }
  else if (message.type === "history") {
    page.rows.push(...message.rows);
    if (page.rows.length > MAX_ROWS) page.rows = page.rows.filter((_, i) => i % 2);
    drawCurves($("curves"), page.rows);
  }
}

function showHello(hello) {
  page.hello = hello;
  page.rows = [];
  document.title = `adop · ${hello.scene}`;
  $("scene").textContent = hello.scene;
  $("where").textContent = `${hello.points.toLocaleString("en")} points · ${hello.photos.length} photos${hello.trained ? "" : " · not trained"}`;
  $("level").max = hello.levels - 1;
  overlay.photos = hello.photos;
  overlay.scale = hello.scale;
  if (!$("photos").children.length) addThumbnails(hello.photos);
  timeline.showSaved({ paths: hello.paths });
}

function addThumbnails(photos) {
  $("photos").append(...photos.map((photo, i) => {
    const button = document.createElement("button"), image = new Image();
    if (photos.length > LAZY_PHOTOS) image.loading = "lazy";
    image.src = `photo/${i}/small.jpg`;
    image.alt = photo.name;
    image.onload = () => overlay.draw();
    thumbnails[i] = image;
    button.append(image);
    button.title = photo.name + (photo.held_out ? " (not trained on)" : "");
    if (photo.held_out) { const dot = document.createElement("i"); dot.className = "held"; button.append(dot); }
    button.onclick = () => goToPhoto(i);
    return button;
  }));
}

function goToPhoto(photo) {
  send({ type: "photo", photo });
}

function showState(state) {
  page.state = state;
  $("layer").value = state.layer;
  const view = state.side_by_side ? "both" : state.layer === "points" ? "points" : state.layer === "neural" ? "neural" : "";
  for (const button of $("views").children) button.classList.toggle("on", button.dataset.view === view);
  for (const button of $("responses").children) button.classList.toggle("on", button.dataset.response === state.response);
  $("level-row").hidden = !["filled", "level", "depth", "weight", "mask"].includes(state.layer);
  $("size-row").hidden = !(state.layer === "points" || state.side_by_side);
  set("level", state.level, state.level);
  set("point-size", Math.log2(state.point_size), `${state.point_size} px`);
  showExposure(state.exposure);
  set("temperature", Math.log(state.temperature / MIN_TEMPERATURE) / Math.log(MAX_TEMPERATURE / MIN_TEMPERATURE), `${state.temperature} K`);
  set("tint", state.tint, state.tint.toFixed(2));
  set("fov", state.fov, `${state.fov.toFixed(0)}°`);
  set("frame-rate", state.frame_rate, state.frame_rate);
  for (const name of ["auto_exposure", "vignette", "show_clipping"]) $(name).checked = state[name];
  if (state.path_loaded || !timeline.keys.length) timeline.setPath(state.path);
  overlay.curve = state.path.curve;
  overlay.draw();
  setPhoto(state.photo);
}

function set(id, value, text) {
  if (document.activeElement !== $(id) || !$(id).matches(":active")) $(id).value = value;
  $(`${id === "point-size" ? "size" : id}-out`).textContent = text;
}

function showExposure(exposure) {
  const stops = -exposure || 0;
  set("brightness", stops, `${stops > 0 ? "+" : ""}${stops.toFixed(2)}`);
}

let currentPhoto = null; // whose camera the view has
let lastPhoto = null; // that was chosen last
function setPhoto(photo) {
  if (photo === currentPhoto) return;
  [...$("photos").children].forEach((button, i) => button.classList.toggle("on", i === photo));
  if (photo !== null) {
    $("photo-name").textContent = page.hello.photos[photo].name;
    $("photos").children[photo]?.scrollIntoView({ block: "nearest", inline: "nearest" });
    lastPhoto = photo;
  } else compare(false);
  currentPhoto = photo;
  $("compare-button").disabled = photo === null;
  $("match-button").disabled = lastPhoto === null;
  if (!$("compare").hidden) compare(true);
}

// Photo and render, divided by a line that can be dragged.
let dividerShare = 0.5; // of the width, left of the line
function compare(on) {
  $("compare").hidden = !on;
  $("stage").classList.toggle("comparing", on);
  $("compare-button").classList.toggle("accent", on);
  if (!on) return;
  const source = `photo/${currentPhoto}/large.jpg`;
  if (!$("compare-photo").src.endsWith(`/${source}`)) $("compare-photo").src = source;
  placeComparison();
}

function placeComparison() {
  const r = overlay.rectangle(), half = page.frame?.side_by_side ? r.width / 2 : r.width;
  Object.assign($("compare").style, { left: `${r.x}px`, top: `${r.y}px`, width: `${half}px`, height: `${r.height}px` });
  $("compare-photo").style.clipPath = `inset(0 ${100 * (1 - dividerShare)}% 0 0)`;
  $("compare-handle").style.left = `${100 * dividerShare}%`;
}
$("compare-handle").onpointerdown = (e) => $("compare-handle").setPointerCapture(e.pointerId);
$("compare-handle").onpointermove = (e) => {
  if (!e.buttons) return;
  const box = $("compare").getBoundingClientRect();
  dividerShare = Math.max(0, Math.min(1, (e.clientX - box.left) / box.width));
  placeComparison();
};
$("compare-button").onclick = () => compare($("compare").hidden);
$("match-button").onclick = () => send({ type: "match_photo", photo: lastPhoto });

function onFrame(header, bitmap) {
  const canvas = $("image");
  if (canvas.width !== header.width || canvas.height !== header.height) {
    canvas.width = header.width;
    canvas.height = header.height;
  }
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  page.frame = header;
  page.frames += 1;
  if (page.state?.auto_exposure || timeline.playing) showExposure(header.exposure);
  setPhoto(header.photo);
  overlay.draw(header);
  if (!$("compare").hidden) placeComparison();
  showFigures(header);
}

function showFigures(header) {
  const now = performance.now();
  page.times.push(now);
  page.moving.push(header.moving);
  while (page.times.length > 1 && now - page.times[0] > FPS_MS) { page.times.shift(); page.moving.shift(); }
  const moving = page.times.filter((_, i) => page.moving[i]);
  if (header.moving && moving.length > 3) $("fps").textContent = (((moving.length - 1) * 1000) / (moving.at(-1) - moving[0])).toFixed(0);
  $("pixels").textContent = `${header.width}×${header.height}`;
  $("pixels-note").textContent = header.moving && header.scale < 1 ? `${Math.round(100 * header.scale)} %` : "full";
  $("note").textContent = header.note;
  if (header.rendered) drawStages($("stages"), header.stages);
  if (now - (page.plotted || 0) < PLOT_MS && header.moving) return;
  page.plotted = now;
  page.histogram = header.histogram;
  drawLight($("light"), { histogram: header.histogram, curves: page.hello.curves, response: page.state.response });
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

function showTraining(status) {
  if (status.live && $("panel").firstElementChild !== $("training")) $("panel").prepend($("training"));
  $("training").hidden = !status.live && !page.rows.length;
  $("training-buttons").hidden = !status.live;
  $("training-state").textContent = status.live ? `step ${status.step}${status.paused ? ", paused" : `, ${status.speed.toFixed(1)}/s`}` : `${status.step} steps`;
  $("pause").textContent = status.paused ? "Resume" : "Pause";
  $("pause").onclick = () => send({ type: "training", action: status.paused ? "resume" : "pause" });
  $("save-run").onclick = () => { send({ type: "training", action: "save" }); toast("A checkpoint will be saved after this step."); };
}

let toastTimer;
function toast(text, bad = false) {
  $("toast").textContent = text;
  $("toast").classList.toggle("bad", bad);
  $("toast").hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { $("toast").hidden = true; }, TOAST_MS);
}

// Ask for as many pixels as the canvas shows, up to a limit that the server can render quickly.
function sendSize() {
  const { clientWidth: w, clientHeight: h } = $("stage");
  const limit = page.hello?.device === "cuda" ? 1920 : 1280;
  const ratio = Math.min(devicePixelRatio || 1, limit / Math.max(w, h, 1));
  send({ type: "size", width: Math.round(w * ratio), height: Math.round(h * ratio) });
}
new ResizeObserver(() => { sendSize(); overlay.draw(); if (!$("compare").hidden) placeComparison(); }).observe($("stage"));

for (const button of $("views").children) {
  button.onclick = () => {
    const view = button.dataset.view;
    send({ type: "display", side_by_side: view === "both", layer: view === "points" ? "points" : "neural" });
  };
}
for (const button of $("responses").children) button.onclick = () => send({ type: "settings", response: button.dataset.response });
$("layer").onchange = (e) => send({ type: "display", layer: e.target.value, side_by_side: false });
$("level").oninput = (e) => send({ type: "display", level: Number(e.target.value) });
$("point-size").oninput = (e) => send({ type: "display", point_size: 2 ** Number(e.target.value) });
$("cameras").onchange = (e) => { overlay.visible = e.target.checked; overlay.draw(); };
$("show_clipping").onchange = (e) => send({ type: "display", show_clipping: e.target.checked });
$("brightness").oninput = (e) => send({ type: "settings", exposure: -Number(e.target.value) });
$("auto_exposure").onchange = (e) => send({ type: "settings", auto_exposure: e.target.checked });
$("vignette").onchange = (e) => send({ type: "settings", vignette: e.target.checked });
$("temperature").oninput = (e) => send({ type: "settings", temperature: MIN_TEMPERATURE * (MAX_TEMPERATURE / MIN_TEMPERATURE) ** Number(e.target.value) });
$("tint").oninput = (e) => send({ type: "settings", tint: Number(e.target.value) });
$("reset-settings").onclick = () => send({ type: "settings", exposure: 0, temperature: 6500, tint: 0, vignette: false, response: "learned" });
$("fov").oninput = (e) => send({ type: "move", focal: 0.5 / Math.tan((Number(e.target.value) * Math.PI) / 360) });
$("fov").addEventListener("input", (e) => { $("fov-out").textContent = `${Number(e.target.value).toFixed(0)}°`; });
$("frame-rate").oninput = (e) => send({ type: "frame_rate", frame_rate: Number(e.target.value) });
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
