// The camera path: key frames are added from the view, dragged along the track, played, saved and rendered.

const $ = (id) => document.getElementById(id);
const KEY_SECONDS = 2; // between key frames that are added one after the other
const MIN_SPAN = 6; // seconds that the track shows at least
const DRAG_PIXELS = 4; // a key frame is moved once it is dragged this far
const ARROW_SECONDS = 0.1; // that the arrow keys move a key frame or the playhead

export class Timeline {
  constructor({ send, view, onKeys, toast }) {
    Object.assign(this, { send, view, onKeys, toast });
    this.keys = [];
    this.selected = -1;
    this.time = 0;
    this.playing = false;
    this.bind();
    this.show();
  }

  get span() { return Math.max(MIN_SPAN, (this.keys.at(-1)?.time || 0) + KEY_SECONDS); }
  get start() { return this.keys[0]?.time || 0; }
  get end() { return this.keys.at(-1)?.time || 0; }

  bind() {
    $("add-key").onclick = () => this.add();
    $("play").onclick = () => this.play(!this.playing);
    $("key-delete").onclick = () => { this.keys.splice(this.selected, 1); this.selected = -1; this.changed(); };
    $("key-set").onclick = () => { Object.assign(this.keys[this.selected], this.fromView()); this.changed(); };
    const field = (id, set) => { $(id).onchange = () => { if ($(id).checkValidity()) { set(this.keys[this.selected], Number($(id).value)); this.changed(); } }; };
    field("key-time", (key, value) => { key.time = this.freeTime(value, key); });
    field("key-brightness", (key, value) => { key.exposure = -value; });
    field("key-fov", (key, value) => { key.focal = 0.5 / Math.tan((value * Math.PI) / 360); });
    for (const id of ["path-width", "path-height", "path-rate"]) $(id).onchange = () => this.changed();
    $("path-save").onclick = () => this.withName((name) => this.send({ type: "save_path", name }));
    $("path-render").onclick = () => this.withName((name) => this.send({ type: "render_path", name, kind: $("path-kind").value }));
    $("path-load").onchange = (e) => {
      if (e.target.value) { this.send({ type: "load_path", name: e.target.value }); $("path-name").value = e.target.value; }
      e.target.value = "";
    };
    $("export-cancel").onclick = () => this.send({ type: "cancel_render" });
    const track = $("track");
    track.onpointerdown = (e) => this.press(e);
    track.onpointermove = (e) => this.drag(e);
    track.onpointerup = track.onpointercancel = () => { if (this.held?.key) this.changed(); this.held = null; };
    track.onkeydown = (e) => this.arrow(e);
  }

  withName(act) {
    const input = $("path-name");
    if (!this.keys.length) this.toast("Add a key frame first: move to a view and press Add key frame.", true);
    else if (!input.value || !input.checkValidity()) this.toast("The name of a path may only have lower-case letters, digits, - and _.", true);
    else act(input.value);
  }

  fromView() {
    const { camera_to_world, focal, exposure } = this.view();
    return { camera_to_world, focal, exposure };
  }

  add() {
    const near = this.keys.find((key) => Math.abs(key.time - this.time) < 0.05);
    const atEnd = this.time >= this.end - 1e-6;
    const time = !this.keys.length ? 0 : near || atEnd ? this.end + KEY_SECONDS : this.time;
    const key = { time, ...this.fromView() };
    this.keys.push(key);
    this.time = time;
    this.changed(key);
  }

  // The time, moved so that no other key frame is at it.
  freeTime(time, key) {
    time = Math.max(0, Math.min(3600, Math.round(time * 100) / 100));
    while (this.keys.some((other) => other !== key && Math.abs(other.time - time) < 0.01)) time += 0.02;
    return time;
  }

  changed(chosen = this.keys[this.selected]) {
    this.keys.sort((a, b) => a.time - b.time);
    this.selected = this.keys.indexOf(chosen);
    this.sendPath();
    this.show();
  }

  // An arrow key moves the key frame or the playhead that has the focus; Enter on a key frame goes there.
  arrow(event) {
    const button = event.target.closest("#keys button"), step = { ArrowLeft: -ARROW_SECONDS, ArrowRight: ARROW_SECONDS }[event.key];
    const key = button && this.keys[Number(button.dataset.key)];
    if (key && (event.key === "Enter" || event.key === " ")) this.selected = this.keys.indexOf(key), this.seek(key.time);
    else if (key && event.key === "Delete") { this.selected = this.keys.indexOf(key); $("key-delete").click(); }
    else if (key && step) { key.time = this.freeTime(key.time + step, key); this.changed(key); }
    else if (step) this.seek(Math.max(0, Math.min(this.span, this.time + step)));
    else return;
    event.preventDefault();
    if (key && this.selected >= 0) $("keys").children[this.selected].focus();
  }

  // Key frames that are not saved survive a reload: the browser keeps them for the tab, by the run.
  keep() {
    if (this.run) sessionStorage.setItem(`adop path ${this.run}`, JSON.stringify({ keys: this.keys, width: $("path-width").value, height: $("path-height").value, rate: $("path-rate").value }));
  }

  // Bring back the key frames of a run from before a reload.
  restore(run) {
    this.run = run;
    const kept = JSON.parse(sessionStorage.getItem(`adop path ${run}`) || "null");
    if (!kept?.keys?.every?.((key) => key.camera_to_world?.length === 16) || !kept.keys.length || this.keys.length) return;
    this.setPath(kept);
    this.sendPath();
  }

  sendPath() {
    this.keep();
    this.send({ type: "path", keys: this.keys, width: Number($("path-width").value) || 960, height: Number($("path-height").value) || 540, rate: Number($("path-rate").value) || 24 });
  }

  // Show the path of the server: after it was loaded, or after the page was reloaded.
  setPath(path) {
    this.keys = path.keys;
    this.selected = -1;
    $("path-width").value = path.width;
    $("path-height").value = path.height;
    $("path-rate").value = path.rate;
    this.keep();
    this.show();
  }

  press(event) {
    const button = event.target.closest("#keys button");
    $("track").setPointerCapture(event.pointerId);
    if (button) {
      this.selected = Number(button.dataset.key);
      this.held = { key: this.keys[this.selected] };
      this.seek(this.held.key.time);
    } else {
      this.held = {};
      this.drag(event);
    }
    this.show();
  }

  drag(event) {
    if (!this.held) return;
    const box = $("inner").getBoundingClientRect();
    const time = Math.max(0, ((event.clientX - box.left) / box.width) * this.span);
    if (this.held.key) {
      if (Math.abs(time - this.held.key.time) * box.width / this.span < DRAG_PIXELS && !this.held.moved) return;
      this.held.moved = true;
      this.held.key.time = this.freeTime(time, this.held.key);
      this.show();
    } else this.seek(time);
  }

  seek(time) {
    this.time = time;
    if (this.keys.length) this.send({ type: "seek", time });
    this.show();
  }

  play(on) {
    if (on && this.keys.length < 2) { this.toast("A path needs at least two key frames to be played.", true); return; }
    this.playing = on;
    $("play").textContent = on ? "❚❚" : "▶";
    $("play").setAttribute("aria-label", on ? "Pause" : "Play");
    $("play").setAttribute("aria-pressed", on);
    if (!on) return;
    if (this.time >= this.end - 0.01 || this.time < this.start) this.time = this.start;
    let last = performance.now();
    const step = (now) => {
      if (!this.playing) return;
      this.seek(Math.min(this.end, this.time + (now - last) / 1000));
      last = now;
      if (this.time >= this.end) this.play(false); else requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  show() {
    const percent = (time) => `${(100 * time) / this.span}%`;
    $("time").textContent = `${this.time.toFixed(1)} s`;
    $("playhead").style.left = percent(this.time);
    $("playhead").setAttribute("aria-valuenow", this.time.toFixed(1));
    $("playhead").setAttribute("aria-valuemax", this.span.toFixed(1));
    $("keys").replaceChildren(...this.keys.map((key, i) => {
      const button = document.createElement("button");
      button.style.left = percent(key.time);
      button.dataset.key = i;
      button.title = `${key.time.toFixed(2)} s`;
      button.setAttribute("aria-label", `Key frame at ${key.time.toFixed(2)} s`);
      button.setAttribute("aria-pressed", i === this.selected);
      button.classList.toggle("on", i === this.selected);
      return button;
    }));
    const interval = this.span > 120 ? 30 : this.span > 40 ? 10 : this.span > 15 ? 2 : 1;
    $("ticks").replaceChildren(...Array.from({ length: Math.floor(this.span / interval) + 1 }, (_, i) => {
      const tick = document.createElement("span");
      tick.style.left = percent(i * interval);
      tick.textContent = `${i * interval} s`;
      return tick;
    }));
    const key = this.keys[this.selected];
    $("key-fields").hidden = !key || $("path").hidden;
    if (key) {
      $("key-time").value = key.time.toFixed(2);
      $("key-brightness").value = (-key.exposure || 0).toFixed(2);
      $("key-fov").value = ((360 / Math.PI) * Math.atan(0.5 / key.focal)).toFixed(1);
    }
    this.onKeys(this.keys);
  }

  showSaved(message) {
    const list = $("path-load");
    list.replaceChildren(list.options[0], ...message.paths.map((name) => new Option(name, name)));
    if (message.file) this.toast(`Saved: ${message.file}`);
  }

  showExport(progress) {
    $("export").hidden = progress.state === "idle";
    $("export-bar").hidden = $("export-cancel").hidden = progress.state !== "running";
    $("export-bar").value = progress.total ? progress.done / progress.total : 0;
    const texts = {
      running: `${progress.name}: frame ${progress.done} of ${progress.total}`, done: `Saved to ${progress.message}`,
      cancelled: `${progress.name}: cancelled`, failed: `${progress.name}: ${progress.message}`,
    };
    $("export-text").textContent = texts[progress.state] || "";
    $("export-link").hidden = !(progress.state === "done" && progress.kind === "mp4");
    $("export-link").href = `video/${progress.name}.mp4`;
  }
}
