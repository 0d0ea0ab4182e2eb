// The playground's network, its losses and its optimizer, in plain arrays: no page, no worker.
//
// An image of 14×14 pixels goes through hidden layers with PReLU to the feature x of two numbers, and
// from there to ten logits. What is kept is float32, as in PyTorch; sums are float64, as JavaScript's.

const CLASSES = 10;
const PIXELS = 196;
const HIDDEN = [64, 32];
const RAMP = 200; // steps in which a larger λ comes in, by equal factors
const RAMP_FROM = 1e-3; // of the λ that it comes to
const TINY = 1e-30; // less than this becomes 0: processors are slow with numbers near 1e-40
const SLOPE = 0.25; // where a PReLU starts
const BETA1 = 0.9, BETA2 = 0.999, EPSILON = 1e-8; // Adam's, as PyTorch has them
const MOMENTUM = 0.9; // of the authors' center loss
const LOW = 1e-12, HIGH = 1e12; // pytorch-center-loss clamps each squared distance to these

/** Random numbers from a seed, the same in every browser (xorshift128, filled by splitmix32). */
class Random {
  constructor(seed) {
    let mixed = seed >>> 0;
    this.state = Uint32Array.from({ length: 4 }, () => {
      mixed = (mixed + 0x9e3779b9) >>> 0;
      let z = Math.imul(mixed ^ (mixed >>> 16), 0x21f0aaad);
      z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
      return z ^ (z >>> 15);
    });
  }

  /** In [0, 1). */
  uniform() {
    const s = this.state;
    let t = s[3];
    s[3] = s[2];
    s[2] = s[1];
    s[1] = s[0];
    t ^= t << 11;
    t ^= t >>> 8;
    s[0] = t ^ s[1] ^ (s[1] >>> 19);
    return s[0] / 2 ** 32;
  }

  normal() {
    return Math.sqrt(-2 * Math.log(1 - this.uniform())) * Math.cos(2 * Math.PI * this.uniform());
  }

  /** In place. */
  shuffle(array) {
    for (let i = array.length - 1; i > 0; i--) {
      const j = Math.floor(this.uniform() * (i + 1));
      [array[i], array[j]] = [array[j], array[i]];
    }
    return array;
  }
}

/** A parameter, its gradient and Adam's two moments. */
class Parameter {
  constructor(length, start) {
    this.value = Float32Array.from({ length }, start);
    this.grad = new Float32Array(length);
    this.first = new Float32Array(length);
    this.second = new Float32Array(length);
  }

  adam(rate, step) {
    const { value, grad, first, second } = this;
    const size = rate / (1 - BETA1 ** step), root = 1 / Math.sqrt(1 - BETA2 ** step);
    for (let i = 0; i < value.length; i++) {
      const g = grad[i];
      const m = BETA1 * first[i] + (1 - BETA1) * g, v = BETA2 * second[i] + (1 - BETA2) * g * g;
      first[i] = Math.abs(m) < TINY ? 0 : m;
      second[i] = v < TINY ? 0 : v;
      value[i] -= (size * m) / (Math.sqrt(v) * root + EPSILON);
    }
  }
}

let found = new Uint32Array(PIXELS); // the numbers of what isn't 0

/** into[at + j] += Σ_k values[first + k·stride] · rows[k, j] for ``width`` columns; zeros cost nothing. */
function addRows(into, at, width, rows, values, first, stride, count) {
  if (found.length < count) found = new Uint32Array(count);
  let many = 0;
  for (let k = 0; k < count; k++) {
    found[many] = k;
    if (values[first + k * stride] !== 0) many++;
  }
  let k = 0;
  for (; k + 3 < many; k += 4) { // four rows at once: the sums are read and written a quarter as often
    const k0 = found[k], k1 = found[k + 1], k2 = found[k + 2], k3 = found[k + 3];
    const v0 = values[first + k0 * stride], v1 = values[first + k1 * stride];
    const v2 = values[first + k2 * stride], v3 = values[first + k3 * stride];
    const r0 = k0 * width, r1 = k1 * width, r2 = k2 * width, r3 = k3 * width;
    for (let j = 0; j < width; j++) {
      into[at + j] += v0 * rows[r0 + j] + v1 * rows[r1 + j] + (v2 * rows[r2 + j] + v3 * rows[r3 + j]);
    }
  }
  for (; k < many; k++) {
    const v = values[first + found[k] * stride], r = found[k] * width;
    for (let j = 0; j < width; j++) into[at + j] += v * rows[r + j];
  }
}

/**
 * A fully connected layer, f(x W + b), with f a PReLU with a slope for each output, a ReLU or nothing.
 *
 * The weights lie input by input, (inputs, outputs): so a black pixel costs nothing.
 */
class Layer {
  constructor(inputs, outputs, activation, hasBias, random) {
    const bound = Math.sqrt(3 / inputs); // Caffe's "xavier", as in LeNet++
    this.inputs = inputs;
    this.outputs = outputs;
    this.weight = new Parameter(inputs * outputs, () => bound * (2 * random.uniform() - 1));
    this.bias = hasBias ? new Parameter(outputs, () => 0) : null;
    this.slope = activation === "prelu" ? new Parameter(outputs, () => SLOPE) : null;
    this.bends = activation !== "none";
    this.sums = this.results = this.grads = new Float32Array(0);
  }

  get parameters() {
    return [this.weight, this.bias, this.slope].filter(Boolean);
  }

  /** From x, (count, inputs), to the results, (count, outputs). */
  forward(x, count) {
    const { inputs, outputs, bias } = this, size = count * outputs;
    if (this.sums.length < size) {
      this.sums = new Float32Array(size); // x W + b
      this.results = this.bends ? new Float32Array(size) : this.sums;
      this.grads = new Float32Array(size); // of the loss, to the results and then to the sums
    }
    const { sums, results } = this;
    for (let b = 0; b < count; b++) {
      for (let j = 0; j < outputs; j++) sums[b * outputs + j] = bias ? bias.value[j] : 0;
      addRows(sums, b * outputs, outputs, this.weight.value, x, b * inputs, 1, inputs);
    }
    if (this.bends) {
      const slopes = this.slope ? this.slope.value : null;
      for (let i = 0; i < size; i++) {
        results[i] = sums[i] > 0 ? sums[i] : slopes ? slopes[i % outputs] * sums[i] : 0;
      }
    }
    return results;
  }

  /** From ``grads`` to the parameters' gradients and, where it is given, to those of x. */
  backward(x, count, toX) {
    const { inputs, outputs, sums, grads } = this, size = count * outputs;
    if (this.bends) {
      const slopes = this.slope ? this.slope.value : null, slopeGrad = this.slope ? this.slope.grad : null;
      if (slopeGrad) slopeGrad.fill(0);
      for (let i = 0; i < size; i++) {
        if (sums[i] > 0) continue;
        if (slopeGrad) slopeGrad[i % outputs] += sums[i] * grads[i];
        grads[i] *= slopes ? slopes[i % outputs] : 0;
      }
    }
    const weight = this.weight.value, grad = this.weight.grad;
    grad.fill(0);
    for (let i = 0; i < inputs; i++) addRows(grad, i * outputs, outputs, grads, x, i, inputs, count);
    if (this.bias) {
      this.bias.grad.fill(0);
      for (let i = 0; i < size; i++) this.bias.grad[i % outputs] += grads[i];
    }
    if (!toX) return;
    for (let b = 0; b < count; b++) {
      for (let i = 0; i < inputs; i++) {
        let sum = 0;
        for (let j = 0; j < outputs; j++) sum += grads[b * outputs + j] * weight[i * outputs + j];
        toX[b * inputs + i] = sum;
      }
    }
  }
}

/**
 * The center losses: Eq. 2 with the paper's centers (Eq. 4), and two that are met in public code.
 *
 * ``factor`` is what stands before ‖x − c‖² in the loss. ``start`` puts a coordinate of a center where it
 * begins. ``delta`` is the Δ of a coordinate of a center: from Σ (c_j − x_i) over its n_j of the batch's
 * images. With ``momentum`` Δ goes through a velocity, and α is the solver's learning rate.
 */
const CENTER_LOSSES = {
  paper: {
    factor: 0.5, alpha: 0.5, clamped: false, momentum: 0,
    start: () => 0,
    delta: (sum, count) => sum / (1 + count),
  },
  pytorch_center_loss: {
    factor: 1, alpha: 0.5, clamped: true, momentum: 0,
    start: (random) => random.normal(),
    delta: (sum, count, batch) => (2 / batch) * sum,
  },
  caffe_face: {
    factor: 0.5, alpha: 0.01, clamped: false, momentum: MOMENTUM,
    start: (random) => Math.sqrt(3 / 2) * (2 * random.uniform() - 1), // Caffe's "xavier", too
    delta: (sum, count) => sum / (1 + count),
  },
};

/**
 * A network in training.
 *
 * ``settings``: seed, activation (of the embedding: "prelu", "relu", "none"), bias (of the last layer), loss (a
 * key of CENTER_LOSSES), lam, ramp (whether a larger λ comes in by equal factors), alpha, rate, batch, shadow
 * (whether centers that follow the gradient are kept, too). All but the first three and the last may be changed
 * while it goes on, λ by ``setLam``.
 */
class Training {
  constructor(images, labels, settings, hidden = HIDDEN) {
    this.images = images; // (N, 196) bytes
    this.labels = labels;
    this.settings = { ...settings };
    const random = (this.random = new Random(settings.seed));
    const widths = [PIXELS, ...hidden];
    this.layers = hidden.map((width, k) => new Layer(widths[k], width, "prelu", true, random));
    this.embedding = new Layer(widths.at(-1), 2, settings.activation, true, random);
    this.classifier = new Layer(2, CLASSES, "none", settings.bias, random);
    this.layers.push(this.embedding, this.classifier);
    this.centers = Float32Array.from({ length: 2 * CLASSES }, () => CENTER_LOSSES[settings.loss].start(random));
    this.velocity = new Float32Array(2 * CLASSES);
    // where the gradient would have put the centers, beside those of Eq. 4
    this.shadow = settings.shadow ? this.centers.slice() : null;
    this.pixels = new Float32Array(0); // of the last batch, (B, 196), from 0 to 1
    this.order = random.shuffle(Uint32Array.from(labels, (_, i) => i));
    this.used = 0; // images of this order
    this.steps = 0;
    this.lam = 0; // as it is now: on its way to settings.lam
    this.growth = 1;
    this.setLam(settings.lam);
  }

  get parameters() {
    return this.layers.flatMap((layer) => layer.parameters);
  }

  /** Let λ come to a value: a smaller one at once, a larger one by equal factors. */
  setLam(lam) {
    this.settings.lam = lam;
    const from = Math.max(this.lam, RAMP_FROM * lam);
    this.growth = this.settings.ramp && lam > from ? (lam / from) ** (1 / RAMP) : 1;
    this.lam = this.growth > 1 ? from : lam;
  }

  /** Which images the next step sees. The last ones of an order that don't fill a batch are left out. */
  nextBatch() {
    const size = Math.min(this.settings.batch, this.order.length);
    if (this.used + size > this.order.length) {
      this.random.shuffle(this.order);
      this.used = 0;
    }
    this.used += size;
    return this.order.subarray(this.used - size, this.used);
  }

  /** Images by their numbers through the network: features (B, 2) and logits (B, 10), valid until the next call. */
  forward(images, batch) {
    const size = batch.length;
    if (this.pixels.length < size * PIXELS) this.pixels = new Float32Array(size * PIXELS);
    for (let b = 0, at = 0; b < size; b++) {
      const from = batch[b] * PIXELS;
      for (let i = 0; i < PIXELS; i++) this.pixels[at++] = images[from + i] / 255;
    }
    let x = this.pixels;
    for (const layer of this.layers) x = layer.forward(x, size);
    return { features: this.embedding.results, logits: x };
  }

  /** One step of Algorithm 1. Returns both losses as they were before it. */
  step(batch = this.nextBatch()) {
    const { settings, layers, embedding, classifier } = this, size = batch.length;
    const { features, logits } = this.forward(this.images, batch);
    const softmax = this.softmaxLoss(logits, batch);
    classifier.backward(features, size, embedding.grads);
    const center = this.centerLoss(features, batch);
    for (let k = layers.length - 2; k >= 0; k--) {
      layers[k].backward(k ? layers[k - 1].results : this.pixels, size, k ? layers[k - 1].grads : null);
    }
    this.steps++;
    for (const parameter of this.parameters) parameter.adam(settings.rate, this.steps);
    this.moveCenters(features, batch);
    this.lam = this.growth > 1 ? Math.min(this.lam * this.growth, settings.lam) : settings.lam;
    return { softmax, center };
  }

  /** Eq. 1, the mean over the batch; its gradient goes to the logits. */
  softmaxLoss(logits, batch) {
    const size = batch.length, grads = this.classifier.grads;
    let loss = 0;
    for (let b = 0; b < size; b++) {
      const at = b * CLASSES, own = at + this.labels[batch[b]];
      let most = -Infinity, sum = 0;
      for (let j = at; j < at + CLASSES; j++) most = Math.max(most, logits[j]);
      for (let j = at; j < at + CLASSES; j++) sum += Math.exp(logits[j] - most);
      loss += Math.log(sum) + most - logits[own];
      for (let j = at; j < at + CLASSES; j++) grads[j] = Math.exp(logits[j] - most) / sum / size;
      grads[own] -= 1 / size;
    }
    return loss / size;
  }

  /** Eq. 2, the mean over the batch; λ times its gradient (Eq. 3) is added to the features'. */
  centerLoss(features, batch) {
    const { factor, clamped } = CENTER_LOSSES[this.settings.loss];
    const size = batch.length, grads = this.embedding.grads, pull = (2 * factor * this.lam) / size;
    let loss = 0;
    for (let b = 0; b < size; b++) {
      const at = 2 * b, own = 2 * this.labels[batch[b]];
      const dx = features[at] - this.centers[own], dy = features[at + 1] - this.centers[own + 1];
      const squared = dx * dx + dy * dy;
      loss += factor * (clamped ? Math.min(Math.max(squared, LOW), HIGH) + (CLASSES - 1) * LOW : squared);
      if (clamped && isClamped(squared)) continue;
      grads[at] += pull * dx;
      grads[at + 1] += pull * dy;
    }
    return loss / size;
  }

  /** Eq. 4 or what takes its place, with the features and the centers of the same step. */
  moveCenters(features, batch) {
    const { loss, alpha } = this.settings;
    if (this.shadow) this.moveThese(this.shadow, null, "pytorch_center_loss", alpha, features, batch);
    this.moveThese(this.centers, this.velocity, loss, alpha, features, batch);
  }

  moveThese(centers, velocity, loss, alpha, features, batch) {
    const { momentum } = CENTER_LOSSES[loss], { deltas } = this.deltas(centers, loss, features, batch);
    for (let i = 0; i < centers.length; i++) {
      let step = alpha * deltas[i];
      if (momentum) step = velocity[i] = momentum * velocity[i] + step;
      centers[i] -= step;
    }
  }

  /** Δc_j, (C, 2), and n_j, (C,), of a batch. */
  deltas(centers, loss, features, batch) {
    const { delta, clamped } = CENTER_LOSSES[loss];
    const deltas = new Float64Array(2 * CLASSES), counts = new Float64Array(CLASSES);
    for (let b = 0; b < batch.length; b++) {
      const label = this.labels[batch[b]];
      const dx = centers[2 * label] - features[2 * b], dy = centers[2 * label + 1] - features[2 * b + 1];
      counts[label]++;
      if (clamped && isClamped(dx * dx + dy * dy)) continue;
      deltas[2 * label] += dx;
      deltas[2 * label + 1] += dy;
    }
    return { deltas: deltas.map((sum, i) => delta(sum, counts[i >> 1], batch.length)), counts };
  }

  /** What a step with this batch would compute of Eq. 2 to 4; nothing moves. */
  explain(batch) {
    const { loss, alpha } = this.settings, { factor, clamped, momentum } = CENTER_LOSSES[loss];
    const features = this.forward(this.images, batch).features.slice(0, 2 * batch.length);
    const labels = Array.from(batch, (i) => this.labels[i]);
    const offsets = Array.from(features, (x, i) => x - this.centers[2 * labels[i >> 1] + (i % 2)]); // x − c
    const squared = labels.map((_, b) => offsets[2 * b] ** 2 + offsets[2 * b + 1] ** 2);
    const centers = this.centers.slice(), moved = this.centers.slice();
    this.moveThese(moved, this.velocity.slice(), loss, alpha, features, batch);
    return {
      batch: Array.from(batch), labels, features: Array.from(features), squared,
      loss: (factor * squared.reduce((a, b) => a + b)) / batch.length, // Eq. 2, but for pytorch-center-loss's clamp
      gradients: offsets.map((x, i) => (clamped && isClamped(squared[i >> 1]) ? 0 : 2 * factor * x)), // Eq. 3
      ...this.deltas(centers, loss, features, batch),
      centers, moved, velocity: this.velocity.slice(), lam: this.lam, alpha, momentum, factor, name: loss,
    };
  }
}

const isClamped = (squared) => squared < LOW || squared > HIGH;

/** Which digit the logits (N, 10) choose, (N,). */
function predict(logits, count) {
  return Uint8Array.from({ length: count }, (_, i) => {
    let best = 0;
    for (let j = 1; j < CLASSES; j++) if (logits[CLASSES * i + j] > logits[CLASSES * i + best]) best = j;
    return best;
  });
}

/** How good features (N, 2) with predictions (N,) are: accuracy, and what metrics.compactness has in Python. */
function measure(features, predictions, labels) {
  const counts = new Float64Array(CLASSES), right = new Float64Array(CLASSES), means = new Float64Array(2 * CLASSES);
  for (let i = 0; i < labels.length; i++) {
    const j = labels[i];
    counts[j]++;
    right[j] += predictions[i] === j;
    means[2 * j] += features[2 * i];
    means[2 * j + 1] += features[2 * i + 1];
  }
  for (let j = 0; j < 2 * CLASSES; j++) means[j] /= counts[j >> 1];
  let intra = 0, inter = Infinity;
  for (let i = 0; i < labels.length; i++) {
    intra += Math.hypot(features[2 * i] - means[2 * labels[i]], features[2 * i + 1] - means[2 * labels[i] + 1]);
  }
  for (let j = 0; j < CLASSES; j++) {
    for (let k = 0; k < j; k++) {
      const apart = Math.hypot(means[2 * j] - means[2 * k], means[2 * j + 1] - means[2 * k + 1]);
      if (apart < inter) inter = apart; // NaN, of a digit without images, isn't less
    }
  }
  return {
    means,
    intra: intra / labels.length,
    inter,
    accuracy: right.reduce((a, b) => a + b) / labels.length,
    recall: Array.from(right, (count, j) => count / counts[j]),
  };
}
