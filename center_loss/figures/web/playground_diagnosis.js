// What is to be seen in a state of the training, and what has gone wrong: keys of words.

const SMALL = 0.35; // features nearer than this to their mean can't be told apart: logits hardly differ
const LOST = 0.1; // a digit of which fewer are found
const GOOD = 0.85; // accuracy of rays that an eye tells apart
const TIGHT = 0.5; // intra/inter of clusters

/** The root of the mean squared distance of features (N, 2) from their mean. */
function spreadOf(features) {
  const count = features.length / 2;
  let x = 0, y = 0, squares = 0;
  for (let i = 0; i < features.length; i += 2) {
    x += features[i] / count;
    y += features[i + 1] / count;
    squares += (features[i] ** 2 + features[i + 1] ** 2) / count;
  }
  return Math.sqrt(Math.max(squares - x * x - y * y, 0));
}

/**
 * What a state of the worker shows.
 *
 * @returns {seen, values, lever}: keys of words, lever null where nothing is wrong.
 */
function diagnose(state, settings) {
  const { steps, accuracy, recall, intra, inter } = state;
  const ratio = (intra / inter).toPrecision(2);
  if (!state.finite) return { seen: "seen-nan", values: { step: steps }, lever: "lever-nan" };
  if (steps === 0) return { seen: "seen-start", values: {}, lever: null };
  if (steps >= 100 && accuracy < 0.3 && spreadOf(state.features) < SMALL) {
    return { seen: "seen-point", values: {}, lever: leverOf(settings) };
  }
  if (steps < 300) return { seen: "seen-early", values: {}, lever: null };
  const lost = recall.flatMap((share, digit) => (share < LOST ? [digit] : []));
  if (lost.length) {
    const seen = lost.length === 1 ? "seen-lost-one" : "seen-lost";
    return { seen, values: { digits: lost.join(", ") }, lever: leverOf(settings) };
  }
  if (state.lam < settings.lam) return { seen: "seen-coming", values: {}, lever: null };
  if (accuracy < GOOD) return { seen: "seen-unsure", values: {}, lever: settings.rate >= 0.02 ? "lever-rate" : null };
  if (intra / inter <= TIGHT) return { seen: settings.bias ? "seen-clusters-bias" : "seen-clusters", values: { ratio }, lever: null };
  if (settings.lam > 0) return { seen: "seen-gathering", values: { ratio }, lever: null };
  return { seen: "seen-rays", values: { ratio }, lever: null };
}

/** The lever that most likely mends a lost digit, or everything in one point. */
function leverOf({ rate, activation, lam, ramp, alpha }) {
  if (rate >= 0.02) return "lever-rate";
  if (activation === "relu") return "lever-relu";
  if (lam > 0 && alpha === 0) return "lever-alpha";
  if (lam >= 1) return ramp ? "lever-lam" : "lever-ramp";
  return lam > 0 && !ramp ? "lever-ramp" : "lever-wait";
}
