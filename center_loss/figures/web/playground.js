// The playground: a network that trains in a worker, and the levers that change it meanwhile.
//
// DATA comes from playground.py: MNIST's images, halved, and the worker's program.

const PIXELS = 196;
const LAMBDAS = [0, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1, 3, 10];
const ALPHAS = [0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1];
const CHOICES = { // of the selects, by setting
  loss: ["paper", "pytorch_center_loss", "caffe_face"],
  bias: [false, true],
  activation: ["prelu", "relu", "none"],
  rate: [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1],
  batch: [16, 32, 64, 128, 256, 512],
};
const OWN_ALPHA = { paper: 0.5, pytorch_center_loss: 0.5, caffe_face: 0.01 }; // what each starts with
const RESTARTING = ["seed", "bias", "activation"]; // settings that change the net
const SPEEDS = [0, 50, 5]; // steps a second; 0: as many as it can
const USUAL = {
  seed: 0, activation: "prelu", bias: false, loss: "paper", lam: 0, ramp: true, alpha: 0.5, rate: 0.005, batch: 128,
  shadow: false,
};
const PRESETS = { // what differs from USUAL
  rays: {},
  clusters: { lam: 0.1 },
  bias: { lam: 0.1, bias: true },
  relu: { activation: "relu" },
  large: { lam: 10, ramp: false },
  lag: { lam: 0.1, ramp: false, alpha: 0.01 },
  gradient: { lam: 0.1, alpha: 0.01, shadow: true },
};
const FRAME = 28; // milliseconds from one picture to the next, at least
const CALM_FRAME = 500; // milliseconds from one picture to the next where motion is to be little
const REACH_EASE = 0.2; // of the way to the wanted reach, in a picture
const PATH_STEPS = 400; // how many steps of the centers' way are drawn

const sets = { train: unpack(DATA.train), test: unpack(DATA.test) };
const settings = { ...USUAL };
let preset = "rays"; // null: of one's own
let shown = "train";
let generation = 0;
let playing = false;
let state = null; // the worker's last
let history = new History();
let path = []; // where the centers were: {steps, centers}
let reach = null; // of what is drawn; it follows the state's
let alone = null; // the digit that is shown alone
let hovered = null; // an image's number
let held = null;

/** Images (N, 196) and labels (N,) from what playground.pack makes. */
function unpack({ mask, values, labels }) {
  const bits = bytes(mask), light = bytes(values), names = bytes(labels), row = Math.ceil(PIXELS / 8);
  const images = new Uint8Array(names.length * PIXELS);
  for (let i = 0, next = 0; i < names.length; i++) {
    for (let k = 0; k < PIXELS; k++) {
      if (bits[i * row + (k >> 3)] & (128 >> (k & 7))) images[i * PIXELS + k] = light[next++];
    }
  }
  return { images, labels: names };
}

// ---- the worker

let worker = null;
try {
  worker = startWorkerFrom(DATA.worker, (message) => {
    if (message.kind === "state") take(message);
    else slowly[message.kind](message);
  });
} catch { /* a page in a frame without an origin may have none; see refuse */ }
const order = (kind, content = {}) => worker?.postMessage({ kind, ...content });
let wantsDrawn = false; // the worker waits until its state was drawn
let drawnAt = -Infinity;

function take(message) {
  if (message.generation !== generation || message.shown !== shown) {
    order("drawn");
    return;
  }
  state = message;
  wantsDrawn = true;
  if (!state.finite) playing = false;
  const { steps, softmax, center, testAccuracy, accuracy, intra, inter } = state;
  if (softmax !== null) history.add({ steps, softmax, center, test: testAccuracy, accuracy, intra, inter });
  if (path.at(-1)?.steps !== steps) path.push({ steps, centers: state.centers });
  while (path[1] && path[1].steps < steps - PATH_STEPS) path.shift();
  const wait = calm.matches && playing ? CALM_FRAME - (performance.now() - drawnAt) : 0;
  if (wait > 0) setTimeout(redraw, wait);
  else redraw();
}

/** Start again, from the seed. */
function start() {
  generation++;
  history = new History();
  path = [];
  reach = state = null;
  order("start", { settings, generation });
  redraw();
}

function play(on) {
  if (on && state && !state.finite) start();
  playing = on;
  $("begin").hidden = true;
  order("play", { on });
  showPlay();
}

function oneStep() {
  playing = false;
  $("begin").hidden = true;
  order("step");
  showPlay();
}

/** Change settings: what changes the net starts again, the rest goes on from where it is. */
function change(changes) {
  if (changes.loss) changes.alpha = OWN_ALPHA[changes.loss];
  const again = Object.keys(changes).some((key) => RESTARTING.includes(key));
  Object.assign(settings, changes);
  preset = null;
  if (again) {
    start();
    if (playing) order("play", { on: true });
  } else {
    order("set", { settings: changes });
  }
  showSettings();
}

function choosePreset(name) {
  Object.assign(settings, USUAL, { seed: settings.seed }, PRESETS[name]);
  preset = name;
  start();
  play(true);
  showSettings();
}

// ---- the picture

const colours = watchColours(DATA.colors, () => {
  paintDigits();
  redraw();
  slowly.redraw();
});
const plane = new Plane($("canvas"), colours, () => redraw());
const shuffled = shuffledOrder(Math.min(...Object.values(sets).map(({ labels }) => labels.length)));
const screen = new Float32Array(2 * shuffled.length); // in CSS pixels of the canvas
const places = new Float32Array(2 * shuffled.length); // relative to the reach
let dirty = false;

function redraw() {
  if (!dirty) requestAnimationFrame(frame);
  dirty = true;
}

function frame(now) {
  if (playing && now - drawnAt < FRAME) { // a faster screen would take time from the training
    requestAnimationFrame(frame);
    return;
  }
  dirty = false;
  if (plane.pixels && state) {
    follow();
    draw();
    showNumbers();
    drawnAt = performance.now();
  }
  if (wantsDrawn) order("drawn");
  wantsDrawn = false;
}

/** Let the picture's scale come to what the features need. */
function follow() {
  if (!Number.isFinite(state.reach)) return;
  const far = reach === null ? 0 : Math.log(state.reach / reach);
  if (reach === null || calm.matches || Math.abs(far) < 0.005) {
    reach = state.reach;
  } else {
    reach *= Math.exp(REACH_EASE * far);
    redraw();
  }
}

const isMeantDigit = (j) => alone === null || alone === j;
const isMeant = (i) => isMeantDigit(state.labels[i]);

function draw() {
  const { features, labels, centers, shadow, weight, bias } = state;
  plane.clear();
  if (!state.finite || reach === null) return;
  for (let i = 0; i < features.length; i++) places[i] = features[i] / reach;
  plane.project(places, screen);
  if ($("regions").checked) plane.drawRegions({ weight, bias, reach }, isMeantDigit);
  plane.drawGrid(reach);
  const radius = plane.dotRadius(labels.length), color = (i) => colours.rgb[labels[i]];
  plane.drawDots(screen, [
    ...(alone === null ? [] : [{ which: shuffled, only: (i) => !isMeant(i), radius, opacity: 0.07, color }]),
    { which: shuffled, only: isMeant, radius, opacity: 0.75, color },
  ]);
  if ($("paths").checked) drawPaths();
  if ($("centers").checked) {
    if (shadow) drawShadow(shadow);
    plane.drawCenters(pairs(centers), reach, isMeantDigit, "c");
  }
  const chosen = held ?? hovered;
  if (chosen !== null) plane.drawRing(screen[2 * chosen], screen[2 * chosen + 1], radius + 7);
  showCard(chosen);
}

const pairs = (flat) => Array.from({ length: DIGITS }, (_, j) => [flat[2 * j], flat[2 * j + 1]]);

/** The way that each center has come lately, fainter where it was longer ago. */
function drawPaths() {
  const { paper } = plane, at = ({ centers }, j) => [plane.toX(centers[2 * j] / reach), plane.toY(centers[2 * j + 1] / reach)];
  paper.lineWidth = 1.6;
  paper.lineCap = "round";
  for (let k = 1; k < path.length; k++) {
    paper.globalAlpha = 0.9 * (1 - Math.min((state.steps - path[k].steps) / PATH_STEPS, 1)) ** 1.5;
    for (let j = 0; j < DIGITS; j++) {
      if (!isMeantDigit(j)) continue;
      paper.strokeStyle = colours.digits[j];
      paper.beginPath();
      paper.moveTo(...at(path[k - 1], j));
      paper.lineTo(...at(path[k], j));
      paper.stroke();
    }
  }
  paper.globalAlpha = 1;
}

/** Centers that follow the gradient: squares, with a line to those of Eq. 4. */
function drawShadow(shadow) {
  const { paper } = plane, { ink } = colours, size = 5;
  for (let j = 0; j < DIGITS; j++) {
    if (!isMeantDigit(j)) continue;
    const x = plane.toX(shadow[2 * j] / reach), y = plane.toY(shadow[2 * j + 1] / reach);
    for (const [thick, color] of [[5, ink.back], [2, ink.front]]) {
      paper.lineWidth = thick;
      paper.strokeStyle = color;
      paper.beginPath();
      paper.moveTo(x, y);
      paper.lineTo(plane.toX(state.centers[2 * j] / reach), plane.toY(state.centers[2 * j + 1] / reach));
      paper.stroke();
    }
    paper.fillStyle = colours.digits[j];
    paper.strokeStyle = ink.front;
    paper.lineWidth = 1.6;
    paper.fillRect(x - size, y - size, 2 * size, 2 * size);
    paper.strokeRect(x - size, y - size, 2 * size, 2 * size);
  }
}

// ---- numbers and words

const words = speak(WORDS, $("language"), () => {
  nameChoices();
  showSettings();
  showPlay();
  slowly.show();
  if (!worker) refuse();
  redraw();
});
const { say } = words;
const short = (v) => (v === null || !Number.isFinite(v) ? "–" : v >= 100 ? v.toFixed(0) : v >= 10 ? v.toFixed(1) : v.toFixed(Math.abs(v) >= 1 ? 2 : 3));
const percent = (share) => (share === null ? "–" : `${(100 * share).toFixed(1)}%`);
const spoken = (v) => (v !== 0 && v < 1e-3 ? `${Math.round(v / 10 ** Math.floor(Math.log10(v)))}·10⁻⁴` : String(v));
let told = "";

function showNumbers() {
  const { steps, testAccuracy, accuracy, intra, inter, lam, perSecond } = state;
  const last = history.points.at(-1);
  $("moment").textContent = say(perSecond ? "moment-pace" : "moment", {
    step: steps.toLocaleString("en"), images: (steps * settings.batch).toLocaleString("en"), pace: perSecond.toFixed(0),
  });
  $("lam-value").textContent = lam < settings.lam ? say("lam-coming", { lam: spoken(settings.lam), now: lam.toPrecision(2) }) : spoken(settings.lam);
  legend("losses-name", [["softmax", short(last?.softmax ?? null)], ["center", short(last?.center ?? null)]]);
  legend("accuracies-name", [["test", percent(testAccuracy)], ...(shown === "train" ? [["train", percent(accuracy)]] : [])]);
  legend("distances-name", [["inter", short(inter)], ["intra", short(intra)], ["ratio", short(intra / inter)]]);
  const { accent } = colours.ink, second = colours.digits[1];
  drawChart($("losses"), history.points, [{ key: "center", color: second }, { key: "softmax", color: accent }], true, colours.ink);
  const split = shown === "train" ? [{ key: "accuracy", color: second }] : [];
  drawChart($("accuracies"), history.points, [...split, { key: "test", color: accent }], false, colours.ink);
  drawChart($("distances"), history.points, [{ key: "inter", color: accent }, { key: "intra", color: second }], true, colours.ink);
  const { seen, values, lever } = diagnose(state, settings);
  const text = say(seen, values) + (lever ? ` ${say(lever)}` : "");
  if (text !== told) $("seen").textContent = told = text;
  $("seen").classList.toggle("wrong", lever !== null);
  $("seen").dataset.seen = seen; // for tests
}

/** Names and numbers of a chart's lines, the first in the accent's colour and the second in the other. */
function legend(id, entries) {
  const html = entries.map(([key, value], k) => `<span class="line${k}">${say(`name-${key}`)} <b>${value}</b></span>`).join(" ");
  if ($(id).innerHTML !== html) $(id).innerHTML = html;
}

function showPlay() {
  const name = playing ? "pause" : "play";
  $("play").textContent = `${playing ? "❚❚" : "▶"} ${say(name)}`;
  $("play").title = say(`${name}-key`);
  $("play").classList.toggle("on", playing);
}

function showSettings() {
  $("lam").value = LAMBDAS.indexOf(settings.lam);
  $("lam").setAttribute("aria-valuetext", spoken(settings.lam));
  $("lam-value").textContent = spoken(settings.lam);
  $("alpha").value = ALPHAS.indexOf(settings.alpha);
  $("alpha").setAttribute("aria-valuetext", settings.alpha);
  $("alpha-value").textContent = settings.alpha;
  $("alpha-name").textContent = say(settings.loss === "caffe_face" ? "alpha-solver" : "alpha");
  $("ramp").checked = settings.ramp;
  $("seed").value = settings.seed;
  $("shown").value = shown;
  for (const key of Object.keys(CHOICES)) $(key).value = String(settings[key]);
  for (const button of $("presets").children) button.setAttribute("aria-pressed", button.dataset.preset === preset);
  $("look").textContent = say(preset ? `look-${preset}` : "look-own");
}

function nameChoices() {
  for (const [key, values] of Object.entries(CHOICES)) {
    for (const [k, value] of values.entries()) {
      $(key).options[k].textContent = typeof value === "number" ? String(value) : say(`${key}-${value}`);
    }
  }
  for (const option of $("shown").options) option.textContent = say(`shown-${option.value}`);
  for (const option of $("speed").options) option.textContent = say(option.value === "0" ? "speed-full" : "speed-steps", { steps: option.value });
  for (const button of $("presets").children) button.textContent = say(`preset-${button.dataset.preset}`);
  for (const [digit, button] of [...$("digits").children].entries()) button.title = say("digit-alone", { digit });
}

/** Say that this browser lets no page like this one train. */
function refuse() {
  worker = null;
  $("seen").textContent = say("seen-no-worker");
  $("seen").classList.add("wrong");
  for (const id of ["begin", "play", "step", "again", "slowly"]) $(id).disabled = true;
}

// ---- the card of an image

function showCard(i) {
  const card = $("card");
  card.classList.toggle("empty", i === null);
  card.ariaLive = playing ? "off" : "polite"; // else a screen reader would hear every picture
  if (i === null) return;
  paintImage($("digit"), sets[shown].images, i);
  const label = state.labels[i], prediction = state.predictions[i];
  const away = Math.hypot(state.features[2 * i] - state.centers[2 * label], state.features[2 * i + 1] - state.centers[2 * label + 1]);
  const right = prediction === label;
  const html = `${say("card-digit", { digit: `<b>${label}</b>`, prediction: `<b${right ? "" : ' class="wrong"'}>${prediction}</b>` })}<br>` +
    `${say("card-away", { away: short(away), digit: label })}<br>` +
    `<span class="small">${say(`card-${shown}`, { number: i.toLocaleString("en") })}${held === i ? say("card-held") : ""}</span>`;
  if ($("facts").innerHTML !== html) $("facts").innerHTML = html;
  plane.placeCard(card, held === i ? null : [screen[2 * i], screen[2 * i + 1]]);
}

/** An image of a set as it is: white on black. */
function paintImage(canvas, images, i) {
  const paper = canvas.getContext("2d"), picture = paper.createImageData(14, 14);
  for (let k = 0; k < PIXELS; k++) picture.data.set([images[i * PIXELS + k], images[i * PIXELS + k], images[i * PIXELS + k], 255], 4 * k);
  paper.putImageData(picture, 0, 0);
}

// ---- levers

for (const name of Object.keys(PRESETS)) {
  const button = document.createElement("button");
  button.type = "button";
  button.dataset.preset = name;
  button.addEventListener("click", () => choosePreset(name));
  $("presets").append(button);
}
for (const [key, values] of Object.entries({ ...CHOICES, shown: ["train", "test"], speed: SPEEDS })) {
  for (const value of values) $(key).append(new Option("", String(value)));
  if (key in CHOICES) $(key).addEventListener("change", () => change({ [key]: CHOICES[key][$(key).selectedIndex] }));
}
addDigitButtons(chooseDigit);
for (const lam of [0, 1e-4, 1e-3, 0.01, 0.1, 1, 10]) {
  const tick = document.createElement("span");
  tick.textContent = lam === 1e-4 ? "10⁻⁴" : lam === 1e-3 ? "10⁻³" : String(lam);
  tick.style.setProperty("--at", LAMBDAS.indexOf(lam) / (LAMBDAS.length - 1));
  $("lam-ticks").append(tick);
}
$("lam").max = LAMBDAS.length - 1;
$("alpha").max = ALPHAS.length - 1;
$("lam").addEventListener("input", () => change({ lam: LAMBDAS[Number($("lam").value)] }));
$("alpha").addEventListener("input", () => change({ alpha: ALPHAS[Number($("alpha").value)] }));
$("ramp").addEventListener("change", () => change({ ramp: $("ramp").checked }));
$("seed").addEventListener("change", () => {
  const seed = Math.min(Math.max(Math.round(Number($("seed").value)) || 0, 0), 999_999);
  change({ seed });
});
$("shown").addEventListener("change", () => show($("shown").value));
$("speed").addEventListener("change", () => order("speed", { stepsPerSecond: Number($("speed").value) }));
$("play").addEventListener("click", () => play(!playing));
$("begin").addEventListener("click", () => play(true));
$("step").addEventListener("click", oneStep);
$("again").addEventListener("click", again);
for (const id of ["regions", "centers", "paths"]) $(id).addEventListener("change", redraw);

function again() {
  start();
  if (playing) order("play", { on: true });
}

function show(which) {
  shown = which;
  held = hovered = null;
  order("show", { which });
  showSettings();
}

function chooseDigit(digit) {
  alone = alone === digit ? null : digit;
  hovered = null;
  if (held !== null && !isMeant(held)) held = null;
  $("digits").classList.toggle("isolated", alone !== null);
  [...$("digits").children].forEach((button, j) => button.setAttribute("aria-pressed", j === alone));
  redraw();
}

function paintDigits() {
  [...$("digits").children].forEach((button, j) => (button.firstChild.style.background = colours.digits[j]));
  document.documentElement.style.setProperty("--second", colours.digits[1]);
}

function moveLam(by) {
  const lam = LAMBDAS[LAMBDAS.indexOf(settings.lam) + by];
  if (lam !== undefined) change({ lam });
}

plane.listen({
  hover(x, y) {
    const found = x === undefined || !state ? null : nearestDot(screen, x, y, isMeant);
    if (found === hovered) return;
    hovered = found;
    redraw();
  },
  choose(x, y) {
    const found = state && nearestDot(screen, x, y, isMeant);
    held = found === held ? null : found;
    redraw();
  },
  chooseMiddle() {
    held = state && nearestDot(screen, plane.width / 2, plane.height / 2, isMeant, Infinity);
    redraw();
  },
});
$("zoom-in").addEventListener("click", () => plane.zoomBy(1.5));
$("zoom-out").addEventListener("click", () => plane.zoomBy(1 / 1.5));
$("reset").addEventListener("click", () => plane.reset());

const actions = {
  " ": () => play(!playing),
  ".": oneStep,
  "r": again,
  "[": () => moveLam(-1),
  "]": () => moveLam(1),
  "s": () => slowly.open(),
  "t": () => show(shown === "train" ? "test" : "train"),
  "+": () => plane.zoomBy(1.5),
  "=": () => plane.zoomBy(1.5),
  "-": () => plane.zoomBy(1 / 1.5),
  "Home": () => plane.reset(),
  "d": () => $("regions").click(),
  "c": () => $("centers").click(),
  "p": () => $("paths").click(),
  "Escape": () => {
    held = hovered = null;
    redraw();
  },
};
for (let digit = 0; digit < DIGITS; digit++) actions[digit] = () => chooseDigit(digit);
const zoomIn = () => slowly.plane.zoomBy(1.5), zoomOut = () => slowly.plane.zoomBy(1 / 1.5);
const inDialog = { "Escape": () => $("slow").close(), "+": zoomIn, "=": zoomIn, "-": zoomOut, "Home": () => slowly.look(null) };
listenToKeys(Object.fromEntries(Object.keys(actions).map((key) => [key, () => ($("slow").open ? inDialog : actions)[key]?.()])));
// nobody sees it: a phone's battery is spared
document.addEventListener("visibilitychange", () => {
  if (document.hidden && playing) play(false);
});

order("data", sets);
nameChoices();
paintDigits();
showSettings();
showPlay();
plane.followSize();
plane.reset();
if (worker) worker.onerror = refuse;
else refuse();
start();

// For tests, and for the curious with the browser's console.
window.playground = {
  settings, change, choosePreset, play, start, slowly,
  get state() { return state; },
  get playing() { return playing; },
  get history() { return history.points; },
  locate: (i) => {
    const box = $("canvas").getBoundingClientRect();
    return [box.x + $("canvas").clientLeft + screen[2 * i], box.y + $("canvas").clientTop + screen[2 * i + 1]];
  },
};
