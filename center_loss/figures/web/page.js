// The page's program: what is shown of the runs, and what the controls do.

const SNAPSHOTS_A_SECOND = 3;
const RUN_SECONDS = 0.7; // from one run's picture to the next

const colours = watchColours(DATA.colors, paint);
const words = speak(WORDS, $("language"), showWords);
const plane = new Plane($("canvas"), colours, redraw);
const { say } = words;

const state = {
  run: 0,
  at: 0, // in snapshots; the last one shows all test images
  playing: false,
  digit: null, // shown alone
  hovered: null, // a test image's number
  held: null,
  drawing: false, // the pad is there instead of the controls
  get view() { return plane.view; },
  set view(view) { plane.view = view; },
};

const panel = createPanel({
  colours, say, chooseRun, redraw,
  chosenRun: () => state.run,
  hold: (i) => {
    state.held = state.held === i ? null : i;
    redraw();
  },
});

// ---- what there is to see

const current = () => runs[state.run];
const isFinished = () => state.at >= lastMoment(current());
const places = new Float32Array(2 * labels.length).fill(NaN); // relative to the reach
const screen = new Float32Array(2 * labels.length); // in CSS pixels of the canvas
const order = shuffledOrder(labels.length);
let moment = null; // of what is shown
let change = null; // from one run to another: {from: places, mark: of the drawing, reach, began, eased}
let wrong = []; // the misclassified images among those that are shown and meant

/** The digit that the last layer chooses for an image in what is shown. */
function predictionOf(i) {
  if (isFinished()) return current().predictions[i];
  const x = places[2 * i] * moment.reach, y = places[2 * i + 1] * moment.reach;
  const { weight, bias } = moment;
  let best = 0, most = -Infinity;
  for (let j = 0; j < weight.length; j++) {
    const logit = weight[j][0] * x + weight[j][1] * y + (bias ? bias[j] : 0);
    if (logit > most) [best, most] = [j, logit];
  }
  return best;
}

const isShown = (i) => !Number.isNaN(places[2 * i]);
const isMeantDigit = (j) => state.digit === null || state.digit === j;
const isMeant = (i) => isMeantDigit(labels[i]);
const nearest = (x, y, within) => nearestDot(screen, x, y, isMeant, within);

/** The image whose card is shown. */
const chosen = () => (state.held !== null && (isShown(state.held) || state.hovered === null) ? state.held : state.hovered);

// ---- the picture

let dirty = false;

function redraw() {
  if (!dirty) requestAnimationFrame(frame);
  dirty = true;
}

const dotRadius = () => plane.dotRadius(isFinished() ? current().predictions.length : current().indices.length);

function draw() {
  plane.clear();
  plane.project(places, screen);
  if ($("regions").checked) plane.drawRegions(moment, isMeantDigit);
  plane.drawGrid(moment.reach);
  plane.drawDots(screen, dotLayers());
  if ($("centers").checked) {
    const isThere = (j) => isMeantDigit(j) && current().present[j];
    plane.drawCenters(moment.centers, moment.reach, isThere, current().hasCenters ? "c" : "μ");
  }
  if (state.drawing && isFinished()) drawDrawing();
  const i = chosen();
  if (i !== null && isShown(i)) plane.drawRing(screen[2 * i], screen[2 * i + 1], dotRadius() + 7);
  showCard(i);
  $("wrong-count").textContent = `(${wrong.length.toLocaleString("en")})`;
}

/** The drawing's place with its trail; from run to run it flies as the dots do. */
function drawDrawing() {
  const mark = panel.markOf(state.run);
  if (!mark) return;
  let [u, v] = mark.path.at(-1);
  if (change?.mark) [u, v] = [lerp(change.mark[0], u, change.eased), lerp(change.mark[1], v, change.eased)];
  else plane.drawPath(mark.path, colours.ink.front, 2);
  plane.drawMark(u, v, mark.rgb, 11, mark.text);
}

function dotLayers() {
  const radius = dotRadius(), color = (i) => colours.rgb[labels[i]];
  const layers = [{ which: order, only: isMeant, radius, opacity: 0.75, color }];
  if (state.digit !== null) layers.unshift({ which: order, only: (i) => !isMeant(i), radius, opacity: 0.07, color });
  // a ring leaves the digit's colour to be seen
  if ($("wrong").checked) layers.push({ which: wrong, radius: radius + 3, hole: radius + 1.25, opacity: 1, color: () => colours.ink.ring });
  return layers;
}

// ---- the card of an image

function showCard(i) {
  const card = $("card");
  card.classList.toggle("empty", i === null);
  card.ariaLive = state.playing ? "off" : "polite"; // else a screen reader would hear every frame
  if (i === null) return;
  const label = labels[i];
  drawImageOf(i, $("digit"));
  let facts;
  if (isShown(i)) {
    const prediction = predictionOf(i), [cx, cy] = moment.centers[label];
    const away = Math.hypot(places[2 * i] * moment.reach - cx, places[2 * i + 1] * moment.reach - cy);
    const predicted = `<b${prediction === label ? "" : ' class="wrong"'}>${prediction}</b>`;
    facts = say("card-predicted", { label, predicted });
    if (current().present[label]) {
      facts += "<br>" + say(current().hasCenters ? "card-center" : "card-mean", { label, away: threeDigits(away) });
    }
  } else {
    facts = `${say("card-digit", { label })}<br>${say("card-absent")}`;
  }
  const name = say(state.held === i ? "card-held" : "card-image", { i: i.toLocaleString("en") });
  facts += `<br><small>${name}</small>`;
  if ($("facts").innerHTML !== facts) $("facts").innerHTML = facts;
  plane.placeCard(card, state.held === i ? null : [screen[2 * i], screen[2 * i + 1]]);
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
  if (!plane.pixels) return; // the page isn't shown yet; the plane asks again then
  update(now);
  if (state.drawing) panel.update();
  draw();
}

/** Places and moment of what is to be shown now. */
function update(now) {
  const shownAt = calm.matches && !isFinished() ? Math.floor(state.at) : state.at;
  moment = momentOf(current(), shownAt);
  placesOf(current(), shownAt, places);
  if (change) {
    const t = Math.min((now - change.began) / 1000 / RUN_SECONDS, 1), eased = t * t * (3 - 2 * t);
    change.eased = eased;
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
  const run = current(), shown = momentOf(run, state.at);
  const count = isFinished() ? run.predictions.length : run.indices.length;
  const text = say(isFinished() ? "at-end" : "at-step", {
    step: shown.step.toLocaleString("en"), count: count.toLocaleString("en"), accuracy: percent(shown.accuracy),
  });
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
  $("play").setAttribute("aria-label", say(state.playing ? "stop" : "play"));
  $("play").title = say(state.playing ? "stop-key" : "play-key");
}

function stepBy(by) {
  stop();
  setMoment(by > 0 ? Math.floor(state.at + 1 + 1e-6) : Math.ceil(state.at - 1 - 1e-6));
}

// ---- runs, digits, options

function chooseRun(r) {
  if (r < 0 || r >= runs.length) return;
  const was = current(), finished = isFinished(), share = state.at / Math.max(lastMoment(was), 1);
  if (r !== state.run && moment && !calm.matches) {
    const mark = panel.markOf(state.run)?.path.at(-1);
    change = { from: places.slice(), mark, reach: moment.reach, began: performance.now(), eased: 0 };
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
  state.hovered = null;
  showRun();
  if (state.drawing) panel.follow();
  redraw();
}

/** What is said of the chosen run. */
function showRun() {
  $("centers-name").textContent = say(current().hasCenters ? "centers" : "means");
  $("caption").textContent = current().caption[words.language] + (lastMoment(current()) < 1 ? say("no-snapshots") : "");
  showMoment();
}

/** Show the pad, or the test images' controls. */
function setDrawing(drawing) {
  state.drawing = drawing;
  document.body.classList.toggle("drawing", drawing);
  $("drawing").hidden = !drawing;
  $("looking").hidden = drawing;
  $("small").hidden = !drawing || runs.length < 2;
  $("draw").setAttribute("aria-pressed", drawing);
  $("look").setAttribute("aria-pressed", !drawing);
  if (drawing) {
    stop();
    setMoment(lastMoment(current())); // the network is the finished run's
    panel.follow();
  }
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
  const x = plane.toX(places[2 * state.held]), y = plane.toY(places[2 * state.held + 1]);
  if (x < 0 || y < 0 || x > plane.width || y > plane.height) {
    plane.view.x = places[2 * state.held];
    plane.view.y = places[2 * state.held + 1];
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
  const by = arrow(event);
  if (!by) return;
  event.preventDefault();
  chooseRun((state.run + by + runs.length) % runs.length);
  $("runs").children[state.run].focus();
});
addDigitButtons(chooseDigit);
for (const id of ["regions", "centers", "wrong"]) $(id).addEventListener("change", redraw);
$("next").addEventListener("click", () => holdWrong(1));
$("previous").addEventListener("click", () => holdWrong(-1));
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
plane.listen({
  hover: (...at) => {
    const found = at.length ? nearest(...at) : null;
    if (found !== state.hovered) {
      state.hovered = found;
      redraw();
    }
  },
  choose: (x, y) => {
    const found = nearest(x, y);
    state.held = found === state.held ? null : found;
    redraw();
  },
  chooseMiddle: () => {
    state.held = nearest(plane.width / 2, plane.height / 2, Infinity);
    redraw();
  },
});
$("look").addEventListener("click", () => setDrawing(false));
$("draw").addEventListener("click", () => setDrawing(true));
$("zoom-in").addEventListener("click", () => plane.zoomBy(1.5));
$("zoom-out").addEventListener("click", () => plane.zoomBy(1 / 1.5));
$("reset").addEventListener("click", () => plane.reset());

const keys = {
  " ": () => (state.playing ? stop() : state.drawing || play()), // a drawing is of the finished run
  ",": () => state.drawing || stepBy(-1),
  ".": () => state.drawing || stepBy(1),
  "[": () => chooseRun(state.run - 1),
  "]": () => chooseRun(state.run + 1),
  "+": () => plane.zoomBy(1.5),
  "=": () => plane.zoomBy(1.5),
  "-": () => plane.zoomBy(1 / 1.5),
  "Home": () => plane.reset(),
  "n": () => holdWrong(1),
  "p": () => holdWrong(-1),
  "d": () => $("regions").click(),
  "c": () => $("centers").click(),
  "m": () => $("wrong").click(),
  "w": () => setDrawing(!state.drawing),
  "u": () => state.drawing && panel.pad.undo(),
  "x": () => state.drawing && panel.pad.clear(),
  "Escape": () => {
    state.held = state.hovered = null;
    redraw();
  },
};
for (let digit = 0; digit < DIGITS; digit++) keys[digit] = () => chooseDigit(digit);
listenToKeys(keys);
document.addEventListener("keydown", (event) => {
  if (!state.drawing || event.key.toLowerCase() !== "z" || !(event.ctrlKey || event.metaKey) || event.shiftKey) return;
  event.preventDefault();
  panel.pad.undo();
});

// ---- words and colours

function showWords() {
  [...$("digits").children].forEach((button, digit) => (button.title = say("digit-alone", { digit })));
  showRun();
  showPlay();
  panel.showSoon();
}

function paint() {
  [...$("digits").children].forEach((button, j) => (button.firstChild.style.background = colours.digits[j]));
  panel.repaint();
  redraw();
}

images.addEventListener("load", redraw);
chooseRun(DATA.first);
state.at = lastMoment(current());
showWords();
setDrawing(false);
paint();
plane.followSize();
plane.reset();

// For tests, and for the curious with the browser's console: where an image is, in the window.
window.page = {
  state, runs, labels, panel,
  locate: (i) => {
    const box = plane.canvas.getBoundingClientRect();
    return [box.x + plane.canvas.clientLeft + screen[2 * i], box.y + plane.canvas.clientTop + screen[2 * i + 1]];
  },
  predictionOf, redraw, zoomBy: (...given) => plane.zoomBy(...given),
};
