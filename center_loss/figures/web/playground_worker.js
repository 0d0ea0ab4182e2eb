// The playground's worker: trains without a pause and shows the page where it is, 30 times a second.
//
// It comes after playground_engine.js, in one program. What is posted to it is {kind, …}, a kind being a key of
// ``orders``; it posts a state after the first, and then whenever the page has drawn the one before.

const SHOWN = 2000; // images that are drawn
const TURN = 8; // milliseconds of training before orders are looked at
const FRAME = 30; // milliseconds from one state to the next, at least
const SHARE = 3; // and this many times as long as a state takes: most of the time is for training
const TEST_EVERY = 8; // states, from one test accuracy to the next
const now = () => performance.now();

const sets = {}; // by name, train and test: {images (N, 196), labels (N,)}
let training = null;
let generation = 0; // which start this is: the page leaves out what comes of an older one
let playing = false;
let shown = "train";
let speed = 0; // steps a second; 0: as many as it can
let shownAt = -Infinity; // when the last state was posted, and how long it took to find
let showTook = 0;
let changed = false; // since the last state
let drawn = true; // whether the page has drawn that
let due = 0; // steps, of a slow speed
let last = 0; // when this was reckoned
let lossSums = [0, 0, 0]; // of softmax and center loss, and of how many steps
let testAccuracy = null;
let states = 0;
let pace = { since: 0, steps: 0, perSecond: 0 };

const channel = new MessageChannel(); // setTimeout waits for 4 ms or more
channel.port1.onmessage = turn;
let awaited = false; // whether a turn is under way

function goOn() {
  if (!awaited) channel.port2.postMessage(0);
  awaited = true;
}

function turn() {
  awaited = false;
  const began = now();
  if (playing) {
    if (speed) {
      due = Math.min(due + ((began - last) / 1000) * speed, speed); // not all that a sleep has left undone
      for (; due >= 1 && playing && now() - began < TURN; due--) step();
    } else {
      while (playing && now() - began < TURN) step();
    }
    last = began;
  }
  const wait = playing ? Math.max(FRAME, SHARE * showTook) : 0;
  if (drawn && changed && now() - shownAt >= wait) {
    const before = now();
    show();
    shownAt = now();
    showTook = shownAt - before;
  }
  if (!playing) return;
  if (speed) setTimeout(goOn, 8);
  else goOn();
}

function step(batch) {
  changed = true;
  const { softmax, center } = training.step(batch);
  lossSums = [lossSums[0] + softmax, lossSums[1] + center, lossSums[2] + 1];
  if (!Number.isFinite(softmax + center)) playing = false;
}

/** Features and predictions of a set's first images. */
function embed({ images, labels }, count = Math.min(SHOWN, labels.length)) {
  const { features, logits } = training.forward(images, Uint32Array.from({ length: count }, (_, i) => i));
  return { features: features.slice(0, 2 * count), predictions: predict(logits, count), labels: labels.subarray(0, count) };
}

function show() {
  drawn = changed = false;
  const at = embed(sets[shown]), measured = measure(at.features, at.predictions, at.labels);
  if (shown === "test") testAccuracy = measured.accuracy;
  else if (states % TEST_EVERY === 0 || !playing) {
    const test = embed(sets.test);
    testAccuracy = measure(test.features, test.predictions, test.labels).accuracy;
  }
  states++;
  const passed = now() - pace.since;
  if (passed > 1000) {
    pace = { since: now(), steps: training.steps, perSecond: (1000 * (training.steps - pace.steps)) / passed };
  }
  const { weight, bias } = training.classifier;
  const [softmax, center, count] = lossSums;
  lossSums = [0, 0, 0];
  postMessage({
    kind: "state", generation, shown, playing, ...measured, ...at, testAccuracy,
    steps: training.steps,
    lam: training.lam,
    softmax: count ? softmax / count : null, // means over the steps since the last state
    center: count ? center / count : null,
    finite: Number.isFinite(softmax + center + measured.intra),
    perSecond: playing ? pace.perSecond : 0,
    reach: reachOf(at.features, training.centers),
    centers: training.centers.slice(),
    shadow: training.shadow && training.shadow.slice(),
    weight: Array.from({ length: CLASSES }, (_, j) => [weight.value[j], weight.value[CLASSES + j]]),
    bias: bias && Array.from(bias.value),
  });
}

/** How far axes around the origin go to show all but two in a thousand features, and the centers. */
function reachOf(features, centers) {
  const far = new Float32Array(features.length / 2);
  for (let i = 0; i < far.length; i++) far[i] = Math.max(Math.abs(features[2 * i]), Math.abs(features[2 * i + 1]));
  far.sort();
  const most = centers.reduce((a, b) => Math.max(a, Math.abs(b)), far[Math.floor(0.998 * (far.length - 1))]);
  return 1.12 * Math.max(most, 1e-6);
}

/** Eight images of four digits, so that some of them share a center. */
function eight(seed) {
  const random = new Random(seed), { labels } = sets.train;
  const digits = random.shuffle(Array.from({ length: CLASSES }, (_, j) => j));
  const wanted = [3, 2, 2, 1].flatMap((count, k) => Array(count).fill(digits[k]));
  const order = random.shuffle(Uint32Array.from(labels, (_, i) => i));
  return Uint32Array.from(wanted, (digit, k) => {
    const before = wanted.slice(0, k).filter((each) => each === digit).length;
    return order.filter((i) => labels[i] === digit)[before];
  });
}

const orders = {
  data({ train, test }) {
    Object.assign(sets, { train, test });
  },
  start({ settings, generation: number }) {
    generation = number;
    training = new Training(sets.train.images, sets.train.labels, settings);
    lossSums = [0, 0, 0];
    testAccuracy = null;
    due = 0;
    pace = { since: now(), steps: 0, perSecond: 0 };
    changed = true;
    goOn();
  },
  play({ on }) {
    playing = on && training !== null;
    last = now();
    pace = { since: last, steps: training.steps, perSecond: 0 };
    changed = true;
    goOn();
  },
  step() {
    playing = false;
    step();
    goOn();
  },
  set({ settings }) {
    const { lam, ...others } = settings;
    Object.assign(training.settings, others);
    if (lam !== undefined) training.setLam(lam);
    if (others.loss) training.velocity.fill(0);
    changed = true;
    goOn();
  },
  show({ which }) {
    shown = which;
    changed = true;
    goOn();
  },
  speed({ stepsPerSecond }) {
    speed = stepsPerSecond;
    due = 0;
  },
  drawn() {
    drawn = true;
    if (changed) goOn();
  },
  explain({ seed }) {
    postMessage({ kind: "explained", ...training.explain(eight(seed)) });
  },
  /** Take a step with the images that were explained, and say where they are then. */
  stepWith({ batch }) {
    playing = false;
    step(Uint32Array.from(batch));
    const { features } = training.forward(sets.train.images, Uint32Array.from(batch));
    postMessage({ kind: "stepped", features: Array.from(features.slice(0, 2 * batch.length)) });
    goOn();
  },
};

onmessage = ({ data }) => orders[data.kind](data);
