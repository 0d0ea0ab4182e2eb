// The page's program. DATA comes from page.py, which says what is in it.
//
// Places are kept relative to a run's reach at a moment: the whole picture goes from −1 to 1 then,
// whatever the features' scale, and it glides from one moment to the next and from run to run.

const DIGITS = 10;
const SNAPSHOTS_A_SECOND = 3;
const RUN_SECONDS = 0.7; // from one run's picture to the next
const NEAR = 14; // pixels from a dot at which it is meant
const $ = (id) => document.getElementById(id);
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const int16 = (text) => new Int16Array(bytes(text).buffer);
const uint16 = (text) => new Uint16Array(bytes(text).buffer);
const lerp = (a, b, t) => a + (b - a) * t;
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const dark = matchMedia("(prefers-color-scheme: dark)");

const labels = bytes(DATA.labels);
const runs = DATA.runs.map((run) => ({
  ...run,
  features: int16(run.features), // (N, 2), relative to the last reach, in steps of 1 / 32767 · LIMIT
  predictions: bytes(run.predictions),
  indices: uint16(run.indices), // the snapshots' images
  snapshots: run.snapshots.map((each) => ({ ...each, features: int16(each.features) })),
}));
const UNIT = DATA.limit / 32767;
const images = new Image();
images.src = DATA.images;

const state = {
  run: 0,
  at: 0, // in snapshots; the last one shows all test images
  playing: false,
  digit: null, // shown alone
  view: { x: 0, y: 0, zoom: 1 }, // what is in the middle, relative to the reach
  hovered: null, // a test image's number
  held: null,
};

// ---- what there is to see

const current = () => runs[state.run];
const lastMoment = (run) => run.snapshots.length - 1;
const isFinished = (run = current(), at = state.at) => at >= lastMoment(run);

/** Centers, weights, reach and step of a run between two snapshots. */
function momentOf(run, at) {
  if (isFinished(run, at)) return run.end;
  const k = Math.floor(at), t = at - k, a = run.snapshots[k], b = run.snapshots[k + 1] ?? a;
  const mix = (name) =>
    a[name] && a[name].map((row, i) => (Array.isArray(row) ? row.map((v, j) => lerp(v, b[name][i][j], t)) : lerp(row, b[name][i], t)));
  return {
    centers: a.centers.map((row, i) => row.map((v, j) => lerp(v / a.reach, b.centers[i][j] / b.reach, t))).map(
      (row) => row.map((v) => v * a.reach ** (1 - t) * b.reach ** t)),
    weight: mix("weight"), bias: mix("bias"),
    reach: a.reach ** (1 - t) * b.reach ** t, // by equal factors in equal times
    step: a.step, accuracy: a.accuracy,
  };
}

/** Write a run's places, relative to the reach, at a moment into (N, 2); absent images are NaN. */
function placesOf(run, at, into) {
  into.fill(NaN);
  if (isFinished(run, at)) {
    for (let i = 0; i < run.features.length; i++) into[i] = run.features[i] * UNIT;
    return;
  }
  const k = Math.floor(at), t = at - k;
  const a = run.snapshots[k].features, b = (run.snapshots[k + 1] ?? run.snapshots[k]).features;
  for (let m = 0; m < run.indices.length; m++) {
    const i = 2 * run.indices[m];
    into[i] = lerp(a[2 * m], b[2 * m], t) * UNIT;
    into[i + 1] = lerp(a[2 * m + 1], b[2 * m + 1], t) * UNIT;
  }
}

const places = new Float32Array(2 * labels.length).fill(NaN); // relative to the reach
const screen = new Float32Array(2 * labels.length); // in CSS pixels of the canvas
let moment = null; // of what is shown
let change = null; // from one run to another: {from: places, reach, began}

/** The digit that the last layer chooses for an image in what is shown. */
function predictionOf(i) {
  if (isFinished()) return current().predictions[i];
  const x = places[2 * i] * moment.reach, y = places[2 * i + 1] * moment.reach;
  let best = 0, most = -Infinity;
  moment.weight.forEach(([a, b], j) => {
    const logit = a * x + b * y + (moment.bias ? moment.bias[j] : 0);
    if (logit > most) [best, most] = [j, logit];
  });
  return best;
}

const isShown = (i) => !Number.isNaN(places[2 * i]);
const isMeantDigit = (j) => state.digit === null || state.digit === j;
const isMeant = (i) => isMeantDigit(labels[i]);
let wrong = []; // the misclassified images among those that are shown and meant

/** The image whose card is shown. */
const chosen = () => (state.held !== null && (isShown(state.held) || state.hovered === null) ? state.held : state.hovered);

// ---- the picture

const canvas = $("canvas"), paper = canvas.getContext("2d");
let width = 0, height = 0, ratio = 1;
let colors = [], rgb = [], ink = {}; // rgb: of each digit, [red, green, blue]
let dirty = false;
// Images in a random order that is the same each time: no digit hides another where they overlap.
const order = (() => {
  const shuffled = Uint16Array.from(labels, (_, i) => i);
  let seed = 1;
  for (let i = shuffled.length - 1; i > 0; i--) {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    const j = Math.floor((seed / 2 ** 32) * (i + 1));
    [shuffled[i], shuffled[j]] = [shuffled[j], shuffled[i]];
  }
  return shuffled;
})();

function redraw() {
  if (!dirty) requestAnimationFrame(frame);
  dirty = true;
}

/** Pixels a unit (the reach) takes. */
const scale = () => (Math.min(width, height) / 2) * state.view.zoom;
const toX = (u) => width / 2 + (u - state.view.x) * scale();
const toY = (v) => height / 2 - (v - state.view.y) * scale();

function draw() {
  paper.setTransform(ratio, 0, 0, ratio, 0, 0);
  paper.clearRect(0, 0, width, height);
  if ($("regions").checked) drawRegions();
  drawGrid();
  drawDots();
  if ($("centers").checked) drawCenters();
  drawRing(chosen());
  showCard(chosen());
  $("wrong-count").textContent = `(${wrong.length.toLocaleString("en")})`;
}

/** A ring with a dark and a light line, which is seen on anything. */
function drawRing(i) {
  if (i === null || !isShown(i)) return;
  for (const [thick, color] of [[6, ink.back], [3, ink.front]]) {
    paper.lineWidth = thick;
    paper.strokeStyle = color;
    circle(screen[2 * i], screen[2 * i + 1], dotRadius() + 7);
    paper.stroke();
  }
}

function circle(x, y, radius) {
  paper.beginPath();
  paper.arc(x, y, radius, 0, 2 * Math.PI);
}

/** Where the last layer chooses each digit: the view, cut by the line between it and each other. */
function drawRegions() {
  const s = scale(), { weight, bias, reach } = moment;
  const corners = [[-1, -1], [1, -1], [1, 1], [-1, 1]].map(([a, b]) => [
    state.view.x + (a * width) / 2 / s, state.view.y + (b * height) / 2 / s]);
  for (let i = 0; i < DIGITS; i++) {
    let polygon = corners;
    for (let j = 0; j < DIGITS && polygon.length; j++) {
      if (j === i) continue;
      const a = (weight[i][0] - weight[j][0]) * reach, b = (weight[i][1] - weight[j][1]) * reach;
      const c = bias ? bias[i] - bias[j] : 0;
      polygon = cut(polygon, ([u, v]) => a * u + b * v + c);
    }
    if (!polygon.length) continue;
    paper.beginPath();
    polygon.forEach(([u, v]) => paper.lineTo(toX(u), toY(v)));
    paper.closePath();
    paper.globalAlpha = isMeantDigit(i) ? ink.regionAlpha : ink.regionAlpha / 3;
    paper.fillStyle = colors[i];
    paper.fill();
  }
  paper.globalAlpha = 1;
}

/** The part of a convex polygon where ``value`` isn't negative. */
function cut(polygon, value) {
  const kept = [];
  polygon.forEach((p, k) => {
    const q = polygon[(k + 1) % polygon.length], a = value(p), b = value(q);
    if (a >= 0) kept.push(p);
    if (a >= 0 !== b >= 0) kept.push(p.map((v, d) => lerp(v, q[d], a / (a - b))));
  });
  return kept;
}

/** Grid lines at round numbers, with the numbers along the left and the lower edge. */
function drawGrid() {
  const s = scale() / moment.reach; // pixels a unit of the features takes
  const rough = 90 / s, power = 10 ** Math.floor(Math.log10(rough));
  const gap = power * [1, 2, 5, 10].find((m) => m * power >= rough);
  const digits = Math.max(0, -Math.floor(Math.log10(gap) + 1e-9));
  const name = (v) => v.toLocaleString("en", { maximumFractionDigits: digits }).replace("-", "−");
  paper.lineWidth = 1;
  paper.font = `12px ${getComputedStyle(document.body).fontFamily}`;
  const texts = [];
  const from = (middle, size) => Math.ceil((middle * moment.reach - size / 2 / s) / gap);
  const to = (middle, size) => Math.floor((middle * moment.reach + size / 2 / s) / gap);
  paper.strokeStyle = ink.grid;
  paper.beginPath();
  for (let k = from(state.view.x, width); k <= to(state.view.x, width); k++) {
    const x = Math.round(toX((k * gap) / moment.reach)) + 0.5;
    paper.moveTo(x, 0);
    paper.lineTo(x, height);
    if (x > 44 && x < width - 24) texts.push([name(k * gap + 0), x, height - 6, "center"]);
  }
  for (let k = from(state.view.y, height); k <= to(state.view.y, height); k++) {
    const y = Math.round(toY((k * gap) / moment.reach)) + 0.5;
    paper.moveTo(0, y);
    paper.lineTo(width, y);
    if (y > 14 && y < height - 26) texts.push([name(k * gap + 0), 6, y + 4, "left"]);
  }
  paper.stroke();
  for (const [text, x, y, align] of texts) write(text, x, y, align, ink.muted);
}

function write(text, x, y, align, color) {
  paper.textAlign = align;
  paper.lineJoin = "round";
  paper.lineWidth = 3;
  paper.strokeStyle = ink.back;
  paper.strokeText(text, x, y);
  paper.fillStyle = color;
  paper.fillText(text, x, y);
}

function dotRadius() {
  const count = isFinished() ? current().predictions.length : current().indices.length;
  return Math.min(Math.max(2 * (10000 / count) ** 0.25, 2), 3.2) * Math.min(state.view.zoom ** 0.35, 2.5);
}

const PHASES = 4; // places of a dot within a pixel, each way: dots glide instead of jumping
const stamps = new Map(); // by radius and opacity

/** The opacities (0 to 255) of a dot's or a ring's pixels, for each place within a pixel. */
function stampOf(radius, opacity, hole = -1) {
  const key = `${radius} ${opacity} ${hole}`;
  if (!stamps.has(key)) {
    const size = Math.ceil(2 * radius) + 2, masks = [];
    for (let phase = 0; phase < PHASES ** 2; phase++) {
      const cx = size / 2 + (phase % PHASES) / PHASES, cy = size / 2 + Math.floor(phase / PHASES) / PHASES;
      masks.push(Uint8Array.from({ length: size ** 2 }, (_, k) => {
        const away = Math.hypot((k % size) + 0.5 - cx, Math.floor(k / size) + 0.5 - cy);
        return Math.round(255 * opacity * Math.min(Math.max(Math.min(radius - away, away - hole) + 0.5, 0), 1));
      }));
    }
    if (stamps.size > 20) stamps.clear();
    stamps.set(key, { size, masks });
  }
  return stamps.get(key);
}

const layer = document.createElement("canvas"), layerPen = layer.getContext("2d");
let pixels = null;

/**
 * The dots are blended into an array of pixels: without a graphics card several times as fast as 10,000
 * calls of the canvas, and with one fast enough.
 */
function drawDots() {
  const s = scale(), left = width / 2 - state.view.x * s, top = height / 2 + state.view.y * s;
  for (let i = 0; i < labels.length; i++) {
    screen[2 * i] = left + places[2 * i] * s;
    screen[2 * i + 1] = top - places[2 * i + 1] * s;
  }
  const radius = Math.round(4 * dotRadius() * ratio) / 4;
  new Uint32Array(pixels.data.buffer).fill(0);
  if (state.digit !== null) {
    const faint = stampOf(radius, 0.07);
    for (const i of order) if (!isMeant(i)) stamp(i, faint, rgb[labels[i]]);
  }
  const strong = stampOf(radius, 0.75);
  for (const i of order) if (isMeant(i)) stamp(i, strong, rgb[labels[i]]);
  if ($("wrong").checked) {
    // a ring leaves the digit's colour to be seen
    const ring = stampOf(radius + 3 * ratio, 1, radius + 1.25 * ratio);
    for (const i of wrong) stamp(i, ring, ink.ring);
  }
  layerPen.putImageData(pixels, 0, 0);
  paper.setTransform(1, 0, 0, 1, 0, 0);
  paper.drawImage(layer, 0, 0);
  paper.setTransform(ratio, 0, 0, ratio, 0, 0);
}

/** Blend a stamp of a colour over the pixels at an image's place. */
function stamp(i, { size, masks }, [red, green, blue]) {
  const across = pixels.width, data = pixels.data;
  const x = screen[2 * i] * ratio - size / 2, y = screen[2 * i + 1] * ratio - size / 2;
  const x0 = Math.floor(x), y0 = Math.floor(y);
  if (!(x0 >= 0 && y0 >= 0 && x0 + size <= across && y0 + size <= pixels.height)) return;
  const mask = masks[Math.floor((x - x0) * PHASES) + PHASES * Math.floor((y - y0) * PHASES)];
  for (let row = 0, k = 0; row < size; row++) {
    let at = 4 * ((y0 + row) * across + x0);
    for (let column = 0; column < size; column++, k++, at += 4) {
      const over = mask[k];
      if (!over) continue;
      const under = (data[at + 3] * (255 - over)) / 255, sum = over + under;
      data[at] = (red * over + data[at] * under) / sum;
      data[at + 1] = (green * over + data[at + 1] * under) / sum;
      data[at + 2] = (blue * over + data[at + 2] * under) / sum;
      data[at + 3] = sum;
    }
  }
}

function drawCenters() {
  const { centers, reach } = moment;
  paper.font = `600 14px ${getComputedStyle(document.body).fontFamily}`;
  centers.forEach(([x, y], j) => {
    if (!isMeantDigit(j) || !current().present[j]) return;
    const px = toX(x / reach), py = toY(y / reach);
    paper.fillStyle = "#ffffff";
    paper.strokeStyle = "#000000";
    paper.lineWidth = 1.6;
    circle(px, py, 5.5);
    paper.fill();
    paper.stroke();
    const length = Math.hypot(x, y) || 1;
    write(`${current().centerName === "center" ? "c" : "μ"}${j}`, px + (17 * x) / length, py - (17 * y) / length + 5, "center", ink.front);
  });
}

// ---- the card of an image

function showCard(i) {
  const card = $("card");
  card.classList.toggle("empty", i === null);
  card.ariaLive = state.playing ? "off" : "polite"; // else a screen reader would hear every frame
  if (i === null) return;
  const pen = $("digit").getContext("2d"), label = labels[i];
  pen.clearRect(0, 0, 28, 28);
  if (images.complete) pen.drawImage(images, 28 * (i % DATA.columns), 28 * Math.floor(i / DATA.columns), 28, 28, 0, 0, 28, 28);
  let facts = `digit <b>${label}</b>`;
  if (isShown(i)) {
    const prediction = predictionOf(i), [cx, cy] = moment.centers[label];
    const away = Math.hypot(places[2 * i] * moment.reach - cx, places[2 * i + 1] * moment.reach - cy);
    facts += `, predicted <b${prediction === label ? "" : ' class="wrong"'}>${prediction}</b>`;
    const center = current().centerName === "center" ? `its center c${label}` : `its class mean μ${label}`;
    if (current().present[label]) facts += `<br>${away.toPrecision(3)} from ${center}`;
  } else {
    facts += "<br>not among the images of the snapshots";
  }
  facts += `<br><span class="small">test image ${i.toLocaleString("en")}${state.held === i ? ", held" : ""}</span>`;
  if ($("facts").innerHTML !== facts) $("facts").innerHTML = facts;
  placeCard(card, i);
}

/** Beside the dot under the pointer; of a held image in a corner, where it hides less. */
function placeCard(card, i) {
  const w = card.offsetWidth, h = card.offsetHeight, gap = 16;
  let x = 8, y = 8;
  if (state.held !== i) {
    x = screen[2 * i] + gap + w < width ? screen[2 * i] + gap : screen[2 * i] - gap - w;
    y = screen[2 * i + 1] - h / 2;
  }
  card.style.transform = `translate(${Math.min(Math.max(x, 4), width - w - 4)}px, ${Math.min(Math.max(y, 4), height - h - 4)}px)`;
}

function nearest(x, y, within = NEAR) {
  let best = null, least = within ** 2;
  for (let i = 0; i < labels.length; i++) {
    if (!isMeant(i)) continue;
    const distance = (screen[2 * i] - x) ** 2 + (screen[2 * i + 1] - y) ** 2;
    if (distance < least) [best, least] = [i, distance]; // NaN is no less
  }
  return best;
}

// ---- time

let before = 0;

function frame(now) {
  dirty = false;
  if (state.playing) {
    const passed = Math.min(now - before, 100) / 1000; // a page in the background stands still
    setMoment(Math.min(state.at + passed * SNAPSHOTS_A_SECOND, lastMoment(current())));
    if (isFinished()) stop();
    else redraw();
  }
  before = now;
  if (!pixels) return; // the page isn't shown yet; fit() comes then
  update(now);
  draw();
}

/** Places and moment of what is to be shown now. */
function update(now) {
  const shownAt = calm.matches && !isFinished() ? Math.floor(state.at) : state.at;
  moment = momentOf(current(), shownAt);
  placesOf(current(), shownAt, places);
  if (change) {
    const t = Math.min((now - change.began) / 1000 / RUN_SECONDS, 1), eased = t * t * (3 - 2 * t);
    const reach = change.reach ** (1 - eased) * moment.reach ** eased, scaled = (v) => (v / moment.reach) * reach;
    moment = {
      ...moment, reach, bias: moment.bias && moment.bias.map(scaled),
      centers: moment.centers.map((row) => row.map(scaled)),
    };
    for (let i = 0; i < places.length; i++) {
      if (!Number.isNaN(change.from[i])) places[i] = lerp(change.from[i], places[i], eased);
    }
    if (t < 1) redraw();
    else change = null;
  }
  wrong = [];
  for (let i = 0; i < labels.length; i++) {
    if (isShown(i) && isMeant(i) && predictionOf(i) !== labels[i]) wrong.push(i);
  }
}

function setMoment(at) {
  state.at = Math.min(Math.max(at, 0), lastMoment(current()));
  state.hovered = null;
  showMoment();
  redraw();
}

function showMoment() {
  const run = current(), count = run.predictions.length.toLocaleString("en");
  const shown = momentOf(run, state.at);
  const text = isFinished()
    ? `step ${run.end.step.toLocaleString("en")}: all ${count} images, ${percent(run.end.accuracy)} right`
    : `step ${shown.step.toLocaleString("en")}: ${run.indices.length.toLocaleString("en")} images, ${percent(shown.accuracy)} right`;
  $("moment").textContent = text;
  $("slider").value = lastMoment(run) < 1 ? 1 : state.at;
  $("slider").setAttribute("aria-valuetext", text);
}

const percent = (share) => `${(100 * share).toFixed(2)}%`;

function play() {
  if (lastMoment(current()) < 1) return;
  if (isFinished()) setMoment(0);
  state.playing = true;
  state.hovered = null;
  before = performance.now();
  showPlay();
  redraw();
}

function stop() {
  state.playing = false;
  showPlay();
}

function showPlay() {
  $("play").textContent = state.playing ? "❚❚" : "▶";
  $("play").setAttribute("aria-label", state.playing ? "Stop" : "Play");
  $("play").title = state.playing ? "Stop (Space)" : "Play (Space)";
}

// ---- runs, digits, options

function chooseRun(r) {
  if (r < 0 || r >= runs.length) return;
  const was = current(), finished = isFinished(), share = state.at / Math.max(lastMoment(was), 1);
  if (r !== state.run && moment && !calm.matches) {
    change = { from: places.slice(), reach: moment.reach, began: performance.now() };
  }
  state.run = r;
  const last = lastMoment(current());
  state.at = finished ? last : Math.min(was.snapshots.length === current().snapshots.length ? state.at : share * last, last);
  if (last < 1) stop();
  document.querySelectorAll(".run").forEach((button, k) => {
    button.setAttribute("aria-checked", k === r);
    button.tabIndex = k === r ? 0 : -1;
  });
  $("slider").max = Math.max(last, 1);
  $("slider").disabled = $("play").disabled = last < 1;
  $("centers-name").textContent = current().centerName === "center" ? "centers" : "class means";
  $("caption").textContent = current().caption + (last < 1 ? " It has no snapshots to play." : "");
  state.hovered = null;
  showMoment();
  redraw();
}

function chooseDigit(digit) {
  state.digit = state.digit === digit ? null : digit;
  state.hovered = null;
  if (state.held !== null && !isMeant(state.held)) state.held = null;
  $("digits").classList.toggle("isolated", state.digit !== null);
  [...$("digits").children].forEach((button, j) => button.setAttribute("aria-pressed", j === state.digit));
  redraw();
}

/** Hold the next misclassified image (by +1) or the previous one (by −1), and bring it into view. */
function holdWrong(by) {
  if (!wrong.length) return;
  const k = wrong.indexOf(state.held);
  state.held = wrong[k < 0 ? (by > 0 ? 0 : wrong.length - 1) : (k + by + wrong.length) % wrong.length];
  const x = toX(places[2 * state.held]), y = toY(places[2 * state.held + 1]);
  if (x < 0 || y < 0 || x > width || y > height) {
    state.view.x = places[2 * state.held];
    state.view.y = places[2 * state.held + 1];
  }
  $("wrong").checked = true;
  redraw();
}

for (const [r, run] of runs.entries()) {
  const button = document.createElement("button");
  Object.assign(button, { type: "button", className: "run", textContent: run.name });
  button.setAttribute("role", "radio");
  button.addEventListener("click", () => chooseRun(r));
  $("runs").append(button);
}
$("runs").addEventListener("keydown", (event) => {
  const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!by) return;
  event.preventDefault();
  chooseRun((state.run + by + runs.length) % runs.length);
  $("runs").children[state.run].focus();
});
for (let digit = 0; digit < DIGITS; digit++) {
  const button = document.createElement("button");
  button.type = "button";
  button.title = `The digit ${digit} alone (${digit})`;
  button.setAttribute("aria-pressed", false);
  button.append(document.createElement("i"), String(digit));
  button.addEventListener("click", () => chooseDigit(digit));
  $("digits").append(button);
}
for (const id of ["regions", "centers", "wrong"]) $(id).addEventListener("change", redraw);
$("next").addEventListener("click", () => holdWrong(1));
$("previous").addEventListener("click", () => holdWrong(-1));
// What was clicked doesn't keep the focus, so that Space plays; what was reached with Tab does.
document.addEventListener("click", (event) => {
  if (event.detail && event.target.closest("button, label, input")) document.activeElement.blur();
});
$("play").addEventListener("click", () => (state.playing ? stop() : play()));
$("slider").addEventListener("input", () => {
  stop();
  setMoment(Number($("slider").value));
});
$("slider").addEventListener("keydown", (event) => {
  const by = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
  if (!by) return;
  event.preventDefault();
  stepBy(by);
});

function stepBy(by) {
  stop();
  setMoment(by > 0 ? Math.floor(state.at + 1 + 1e-6) : Math.ceil(state.at - 1 - 1e-6));
}

// ---- zoom and pan

/** Zoom by a factor; what is at (x, y) of the canvas stays there. */
function zoomBy(factor, x = width / 2, y = height / 2) {
  const zoom = Math.min(Math.max(state.view.zoom * factor, 0.3), 500);
  const u = state.view.x + (x - width / 2) / scale(), v = state.view.y - (y - height / 2) / scale();
  state.view.zoom = zoom;
  state.view.x = u - (x - width / 2) / scale();
  state.view.y = v + (y - height / 2) / scale();
  panBy(0, 0);
}

function panBy(x, y) {
  const within = (v) => Math.min(Math.max(v, -1.2), 1.2); // the picture isn't lost
  state.view.x = within(state.view.x - x / scale());
  state.view.y = within(state.view.y + y / scale());
  leaveTouch();
}

function reset() {
  state.view = { x: 0, y: 0, zoom: 1 };
  leaveTouch();
}

/** The whole picture leaves a finger's way up and down to the page, to scroll it. */
function leaveTouch() {
  canvas.style.touchAction = state.view.zoom > 1.05 ? "none" : "pan-y";
  redraw();
}

const fingers = new Map(); // the pointers that are down, and where
let moved = 0; // pixels since the first came down; with a second one it is no tap any more

canvas.addEventListener("pointerdown", (event) => {
  if (event.button !== 0 || event.ctrlKey) return; // a context menu
  canvas.setPointerCapture(event.pointerId);
  moved = fingers.size ? Infinity : 0;
  fingers.set(event.pointerId, [event.offsetX, event.offsetY]);
});
canvas.addEventListener("pointermove", (event) => {
  if (!event.buttons) fingers.delete(event.pointerId); // it went up elsewhere
  const at = [event.offsetX, event.offsetY], was = fingers.get(event.pointerId);
  if (!was) {
    const found = event.pointerType === "touch" ? null : nearest(...at);
    if (found !== state.hovered) {
      state.hovered = found;
      redraw();
    }
    return;
  }
  moved += Math.hypot(at[0] - was[0], at[1] - was[1]);
  const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1];
  if (other) {
    const distance = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]);
    zoomBy(distance(at) / Math.max(distance(was), 1), (at[0] + other[0]) / 2, (at[1] + other[1]) / 2);
    panBy((at[0] - was[0]) / 2, (at[1] - was[1]) / 2);
  } else if (moved > 5) {
    canvas.classList.add("dragged");
    panBy(at[0] - was[0], at[1] - was[1]);
  }
  fingers.set(event.pointerId, at);
});
for (const kind of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(kind, (event) => {
    if (kind === "pointerup" && fingers.has(event.pointerId) && moved <= 5) {
      const found = nearest(event.offsetX, event.offsetY); // a click or a tap
      state.held = found === state.held ? null : found;
      redraw();
    }
    fingers.delete(event.pointerId);
    canvas.classList.remove("dragged");
  });
}
canvas.addEventListener("pointerleave", () => {
  if (state.hovered !== null) {
    state.hovered = null;
    redraw();
  }
});
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  const pixels = event.deltaY * (event.deltaMode === 1 ? 30 : 1);
  zoomBy(Math.exp(-Math.max(-200, Math.min(pixels, 200)) / 400), event.offsetX, event.offsetY);
}, { passive: false });
canvas.addEventListener("keydown", (event) => {
  const by = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] }[event.key];
  if (!by && event.key !== "Enter") return;
  event.preventDefault();
  if (by) panBy(...by);
  else state.held = nearest(width / 2, height / 2, Infinity);
  redraw();
});
$("zoom-in").addEventListener("click", () => zoomBy(1.5));
$("zoom-out").addEventListener("click", () => zoomBy(1 / 1.5));
$("reset").addEventListener("click", reset);

// ---- keys

const KEYS = {
  " ": () => (state.playing ? stop() : play()),
  ",": () => stepBy(-1),
  ".": () => stepBy(1),
  "[": () => chooseRun(state.run - 1),
  "]": () => chooseRun(state.run + 1),
  "+": () => zoomBy(1.5),
  "=": () => zoomBy(1.5),
  "-": () => zoomBy(1 / 1.5),
  "Home": reset,
  "n": () => holdWrong(1),
  "p": () => holdWrong(-1),
  "d": () => $("regions").click(),
  "c": () => $("centers").click(),
  "m": () => $("wrong").click(),
  "Escape": () => {
    state.held = state.hovered = null;
    redraw();
  },
};
for (let digit = 0; digit < DIGITS; digit++) KEYS[digit] = () => chooseDigit(digit);
document.addEventListener("keydown", (event) => {
  const ownSpace = event.key === " " && event.target.matches("button, input[type=checkbox], summary");
  const ownHome = event.key === "Home" && event.target.matches("input[type=range]");
  const action = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  // on some keyboards [ and ] are typed with AltGr, which looks like Ctrl and Alt
  const shortcut = (event.ctrlKey || event.metaKey || event.altKey) && !event.getModifierState("AltGraph");
  if (shortcut || ownSpace || ownHome || !action) return;
  event.preventDefault();
  action();
});

// ---- size and colours

function fit() {
  if (!canvas.clientWidth || !canvas.clientHeight) return; // not shown yet
  ratio = Math.min(devicePixelRatio || 1, 2);
  width = canvas.clientWidth;
  height = canvas.clientHeight;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  layer.width = canvas.width;
  layer.height = canvas.height;
  pixels = layerPen.createImageData(canvas.width, canvas.height);
  redraw();
}

const parts = (color) => [1, 3, 5].map((k) => parseInt(color.slice(k, k + 2), 16));

/** Fit anew when the window comes to a screen of another density. */
function watchRatio() {
  const screenOf = matchMedia(`(resolution: ${devicePixelRatio}dppx)`);
  screenOf.addEventListener("change", () => { fit(); watchRatio(); }, { once: true });
}

function paint() {
  colors = DATA.colors[dark.matches ? "dark" : "light"];
  rgb = colors.map(parts);
  const style = getComputedStyle(document.documentElement);
  for (const name of ["front", "back", "muted", "grid"]) ink[name] = style.getPropertyValue(`--${name}`).trim();
  ink.ring = parts(ink.front);
  ink.regionAlpha = dark.matches ? 0.22 : 0.13;
  [...$("digits").children].forEach((button, j) => (button.firstChild.style.background = colors[j]));
  redraw();
}

new ResizeObserver(fit).observe(canvas);
dark.addEventListener("change", paint);
images.addEventListener("load", redraw);
chooseRun(DATA.first);
state.at = lastMoment(current());
showMoment();
showPlay();
paint();
fit();
watchRatio();
reset();

// For tests, and for the curious with the browser's console: where an image is, in the window.
window.page = {
  state, runs, labels,
  locate: (i) => {
    const box = canvas.getBoundingClientRect();
    return [box.x + canvas.clientLeft + screen[2 * i], box.y + canvas.clientTop + screen[2 * i + 1]];
  },
  predictionOf, redraw, zoomBy,
};
