// The page: sends what the controls say to the server, and shows what the server answers.

import { Address, Connection } from "./connection.js";
import { bindShortcuts, gestureHint, Navigation } from "./navigation.js";
import { Comparison, Overlay, SceneTools } from "./overlay.js";
import { drawCurves, drawLight, drawStages } from "./plots.js";
import { Timeline } from "./timeline.js";

const $ = (id) => document.getElementById(id);
const MIN_TEMPERATURE = 2000, MAX_TEMPERATURE = 12000; // kelvin at the ends of the slider
const MAX_ROWS = 3000; // of the training curves
const LAZY_PHOTOS = 200; // scenes with more photos load only those thumbnails that are scrolled into view
const FPS_MS = 2000; // over which frames per second are averaged
const PLOT_MS = 90; // between updates of the histogram during motion
const TOAST_MS = 4500;
const ADDRESS_MS = 250; // after the last change, that the address is written
const page = { hello: null, state: null, frame: null, rows: [], times: [], moving: [], frames: 0, histogram: null };

const connection = new Connection({ onMessage, onFrame, onFile, onState });
const send = (message) => connection.send(message);
let marks = 0;
// For tests and the console. A frame with a mark shows everything that was sent before the mark.
window.adop = Object.assign(page, { send, mark: () => { send({ type: "mark", mark: ++marks }); return marks; }, markers: () => overlay.markers, address: () => shownAddress() });
const thumbnails = [];
const overlay = new Overlay($("overlay"), { image: (i) => (thumbnails[i]?.complete && thumbnails[i].naturalWidth ? thumbnails[i] : null) });
const timeline = new Timeline({ send, view: () => page.frame, onKeys: (keys) => { overlay.keys = keys; overlay.draw(); }, toast });
const comparison = new Comparison(overlay, {
  box: $("compare"), image: $("compare-photo"), handle: $("compare-handle"), stage: $("stage"),
  onChange: () => { press($("compare-button"), comparison.on); $("compare-button").classList.toggle("accent", comparison.on); sendComparison(); },
});
const address = new Address({
  send,
  onChange: (values) => {
    wantsComparison = values.get("compare") === "1";
    comparison.show(null);
    $("cameras").checked = overlay.visible = values.get("cameras") !== "0";
    $("region").checked = values.get("region") === "1";
    restoring = adop.mark();
  },
});
const tools = new SceneTools(overlay, send, () => { address.jump = true; });
let restoring = Infinity; // the mark of the first frame that shows what the address says; earlier ones are not shown
let wantsComparison = false; // once the photo's view is there
const navigation = new Navigation($("overlay"), $("stage"), {
  send,
  onMove: () => { $("hint").classList.add("gone"); if (timeline.playing) timeline.play(false); },
  onClick: (x, y) => {
    if (tools.mode) { pick("pick", x, y); return; }
    const photo = overlay.pick(x, y); if (photo !== null && overlay.visible) goToPhoto(photo);
  },
  onHover: (x, y) => {
    const photo = overlay.visible ? overlay.pick(x, y) : null;
    if (photo === overlay.hovered) return;
    overlay.hovered = photo;
    $("overlay").classList.toggle("pick", photo !== null);
    overlay.draw();
  },
  onDouble: (x, y) => { if (!tools.mode) pick("pivot", x, y); },
});

// Ask the server for the surface at a place of the stage.
function pick(type, x, y) {
  const r = overlay.rectangle(), half = page.frame?.side_by_side ? r.width / 2 : r.width;
  const u = ((x - r.x) % half) / half, v = (y - r.y) / r.height;
  if (u >= 0 && v >= 0 && v <= 1) send({ type, u, v });
}

function onState(open) {
  $("disconnected").hidden = open || !page.hello;
  restoring = Infinity;
  if (open) { sendSize(); if (timeline.keys.length) timeline.sendPath(); }
}

function onMessage(message) {
  if (message.type === "hello") showHello(message);
  else if (message.type === "state") {
    showState(message);
    if (restoring !== Infinity) return;
    address.opening = message; // the first state of the connection
    address.restore();
  }
  else if (message.type === "picked") { page.picks = (page.picks || 0) + 1; tools.picked(message.point); }
  else if (message.type === "notes") tools.showNotes(message);
  else if (message.type === "saved") timeline.showSaved(message);
  else if (message.type === "error") toast(message.message, true);
  else if (message.type === "status") { timeline.showExport(message.export); showTraining(message.training, message.export.state === "running"); }
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
  timeline.restore(hello.folder);
  address.home = hello.home;
  tools.corners = hello.region;
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
    button.setAttribute("aria-pressed", "false");
    button.title = photo.name + (photo.held_out ? " (not trained on)" : "");
    if (photo.held_out) { const dot = document.createElement("i"); dot.className = "held"; button.append(dot); }
    button.onclick = () => goToPhoto(i);
    return button;
  }));
}

function goToPhoto(photo) {
  $("hint").classList.add("gone");
  address.jump = true;
  send({ type: "photo", photo });
}

// A button that stays pressed.
function press(button, on) {
  button.classList.toggle("on", on);
  button.setAttribute("aria-pressed", on);
}

function showState(state) {
  page.state = state;
  $("layer").value = state.layer;
  const view = state.side_by_side ? "both" : state.layer === "points" ? "points" : state.layer === "neural" ? "neural" : "";
  for (const button of $("views").children) press(button, button.dataset.view === view);
  for (const button of $("responses").children) press(button, button.dataset.response === state.response);
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
  tools.showState(state);
  setPhoto(state.photo);
  writeAddress();
}

function shownAddress() {
  return address.text(page.state, page.frame, { compare: comparison.on || undefined, cameras: overlay.visible ? undefined : false, region: $("region").checked || undefined });
}

// Write the address soon, unless something else changes before.
let addressTimer;
function writeAddress() {
  clearTimeout(addressTimer);
  addressTimer = setTimeout(() => {
    if (!page.frame || page.frame.mark < restoring) return;
    address.write(shownAddress());
  }, ADDRESS_MS);
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
  [...$("photos").children].forEach((button, i) => press(button, i === photo));
  if (photo !== null) {
    $("photo-name").textContent = page.hello.photos[photo].name;
    $("photos").children[photo]?.scrollIntoView({ block: "nearest", inline: "nearest" });
    lastPhoto = photo;
  }
  currentPhoto = photo;
  $("compare-button").disabled = photo === null;
  $("match-button").disabled = lastPhoto === null;
  if (comparison.on || photo === null) comparison.show(photo);
}

function sendComparison() {
  send({ type: "compare", photo: comparison.photo, match: $("compare-match").checked });
}
$("compare-button").onclick = () => comparison.show(comparison.on ? null : currentPhoto);
$("compare-match").onchange = () => sendComparison();
$("match-button").onclick = () => send({ type: "match_photo", photo: lastPhoto });

function onFrame(header, bitmap) {
  if (header.mark < restoring) return;
  const canvas = $("image");
  $("drawing").hidden = true;
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
  if (wantsComparison && header.photo !== null) { wantsComparison = false; comparison.show(header.photo); }
  comparison.place();
  showFigures(header);
  if (!header.moving) writeAddress();
}

function showFigures(header) {
  const now = performance.now();
  page.times.push(now);
  page.moving.push(header.moving);
  while (page.times.length > 1 && now - page.times[0] > FPS_MS) { page.times.shift(); page.moving.shift(); }
  const moving = page.times.filter((_, i) => page.moving[i]);
  if (header.moving && moving.length > 3) $("fps").textContent = (((moving.length - 1) * 1000) / (moving.at(-1) - moving[0])).toFixed(0);
  $("pixels").textContent = `${header.width}×${header.height}`;
  $("pixels-note").textContent = header.scale < 1 ? `${Math.round(100 * header.scale)} %` : "full";
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
  $("light").setAttribute("aria-label", `Light of the picture: ${$("clipped").textContent}, ${$("black").textContent}`);
}

function onFile(header, blob) {
  const anchor = document.createElement("a");
  anchor.href = URL.createObjectURL(blob);
  anchor.download = header.name;
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(anchor.href), 10000);
}

const duration = (seconds) => (seconds < 60 ? `${seconds} s` : seconds < 3600 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`);

function showTraining(status, exporting) {
  if (status.live && $("controls").firstElementChild !== $("training")) $("controls").prepend($("training"));
  $("training").hidden = !status.live && (exporting || !page.rows.length);
  $("training-buttons").hidden = !status.live;
  $("training-title").textContent = status.live ? "Training" : "Trained";
  const left = status.left === undefined ? "" : `, ${duration(status.left)} left`;
  $("training-state").textContent = !status.live ? `${status.step} steps`
    : status.stage ? `preparing${left}` : `step ${status.step}${status.paused ? ", paused" : `, ${status.speed.toFixed(1)}/s${left}`}`;
  $("training-stage").hidden = !status.stage;
  if (status.stage) $("training-stage").textContent = `${status.number} of ${status.stages}: ${status.stage}`;
  $("pause").disabled = $("save-run").disabled = !!status.stage;
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
new ResizeObserver(() => { sendSize(); overlay.draw(); comparison.place(); }).observe($("stage"));

for (const button of $("views").children) {
  button.onclick = () => {
    const view = button.dataset.view;
    address.jump = true;
    send({ type: "display", side_by_side: view === "both", layer: view === "points" ? "points" : "neural" });
  };
}
for (const button of $("responses").children) button.onclick = () => send({ type: "settings", response: button.dataset.response });
$("layer").onchange = (e) => { address.jump = true; send({ type: "display", layer: e.target.value, side_by_side: false }); };
$("level").oninput = (e) => send({ type: "display", level: Number(e.target.value) });
$("point-size").oninput = (e) => send({ type: "display", point_size: 2 ** Number(e.target.value) });
$("region").addEventListener("change", writeAddress);
$("cameras").onchange = (e) => { overlay.visible = e.target.checked; overlay.draw(); writeAddress(); };
$("show_clipping").onchange = (e) => send({ type: "display", show_clipping: e.target.checked });
$("brightness").oninput = (e) => send({ type: "settings", exposure: -Number(e.target.value) });
$("auto_exposure").onchange = (e) => send({ type: "settings", auto_exposure: e.target.checked });
$("vignette").onchange = (e) => send({ type: "settings", vignette: e.target.checked });
$("temperature").oninput = (e) => send({ type: "settings", temperature: MIN_TEMPERATURE * (MAX_TEMPERATURE / MIN_TEMPERATURE) ** Number(e.target.value) });
$("tint").oninput = (e) => send({ type: "settings", tint: Number(e.target.value) });
$("reset-settings").onclick = () => send({ type: "reset_settings" });
$("fov").oninput = (e) => send({ type: "move", focal: 0.5 / Math.tan((Number(e.target.value) * Math.PI) / 360) });
$("fov").addEventListener("input", (e) => { $("fov-out").textContent = `${Number(e.target.value).toFixed(0)}°`; });
$("frame-rate").oninput = (e) => send({ type: "frame_rate", frame_rate: Number(e.target.value) });
$("home").onclick = () => { address.jump = true; send({ type: "home" }); };
$("save-png").onclick = () => send({ type: "snapshot", kind: "png" });
$("save-depth").onclick = () => send({ type: "snapshot", kind: "depth" });
$("save-exr").onclick = () => send({ type: "snapshot", kind: "exr" });

// The tabs of the dock; a second press on the tab that is open folds the dock.
const tabs = [...document.querySelectorAll("footer nav > button")];
function openTab(name) {
  for (const button of tabs) { press(button, button.dataset.tab === name); $(button.dataset.tab).hidden = button.dataset.tab !== name; }
  $("dock").classList.toggle("folded", name === null);
  timeline.show();
}
for (const button of tabs) button.onclick = () => openTab(button.classList.contains("on") ? null : button.dataset.tab);
if (matchMedia("(max-width: 600px), (max-height: 480px)").matches) openTab(null);

function togglePanel(open = !document.body.classList.contains("panel-open")) {
  document.body.classList.toggle("panel-open", open);
  $("panel-toggle").setAttribute("aria-expanded", open);
  $("panel-toggle").textContent = open ? "✕" : "☰";
}
$("panel-toggle").onclick = () => togglePanel();
addEventListener("keydown", (e) => { if (e.key === "Escape") togglePanel(false); });

function pickMiddle() {
  const r = overlay.rectangle();
  if (!tools.mode) tools.setMode("measure");
  pick("pick", r.x + (page.frame.side_by_side ? r.width / 4 : r.width / 2), r.y + r.height / 2);
}
const click = (id) => () => $(id).click();
const step = (by) => () => { const count = page.hello.photos.length; goToPhoto(((currentPhoto ?? lastPhoto ?? (by > 0 ? -1 : 0)) + by + count) % count); };
$("help").onclick = bindShortcuts($("shortcuts"), $("shortcut-list"), navigation, [
  ...["neural", "points", "both"].map((view, i) => [String(i + 1), `view: ${view}`, () => $("views").children[i].click()]),
  ["[", "previous photo", step(-1)], ["]", "next photo", step(1)], ["c", "compare photo and render", click("compare-button")],
  ["m", "match the photo's exposure", click("match-button")], ["h", "reset the view", click("home")],
  ["f", "fit the scene", click("fit")], ["u", "straighten the view", click("straighten")], ["x", "measure to, or pin the note at, the middle of the picture", pickMiddle],
  ["p", "show or hide the controls of a narrow window", () => togglePanel()], ["k", "add a key frame", click("add-key")], [" ", "play the camera path", click("play")],
]);
$("hint").textContent = gestureHint();
