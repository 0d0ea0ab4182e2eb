// The finished runs of the page, decoded from DATA, which comes from page.py and is described there.
//
// Places are kept relative to a run's reach at a moment, and the picture glides from one moment to the next.

const labels = bytes(DATA.labels);
const runs = DATA.runs.map((run) => ({
  ...run,
  features: int16(run.features), // (N, 2), relative to the last reach, in steps of UNIT
  predictions: bytes(run.predictions),
  indices: uint16(run.indices), // the snapshots' images
  snapshots: run.snapshots.map((each) => ({ ...each, features: int16(each.features) })),
}));
const UNIT = DATA.limit / 32767;
const images = new Image();
images.src = DATA.images;

const lastMoment = (run) => run.snapshots.length - 1;

/** Centers, weights, reach and step of a run between two snapshots. */
function momentOf(run, at) {
  if (at >= lastMoment(run)) return run.end;
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
  if (at >= lastMoment(run)) {
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

/** The logits of a feature (x, y). */
function logitsOf({ weight, bias }, x, y) {
  return weight.map(([a, b], j) => a * x + b * y + (bias ? bias[j] : 0));
}

/** Draw a test image onto a canvas of 28 × 28. */
function drawImageOf(i, canvas) {
  const paper = canvas.getContext("2d");
  paper.clearRect(0, 0, 28, 28);
  if (images.complete) paper.drawImage(images, 28 * (i % DATA.columns), 28 * Math.floor(i / DATA.columns), 28, 28, 0, 0, 28, 28);
}
