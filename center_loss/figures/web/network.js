// A trained network's forward pass. figures/weights.py packs a network and says what is in it.
//
// These functions use nothing of a page but each other, so that they run in a worker.

/** Numbers as Float32Array, of {float, half or int8 with a scale for each kernel or row: base64}. */
function unpackNumbers(packed) {
  const decoded = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;
  if (packed.float !== undefined) return new Float32Array(decoded(packed.float));
  if (packed.half !== undefined) {
    const halves = new Uint16Array(decoded(packed.half)), numbers = new Float32Array(halves.length);
    const units = Float64Array.from({ length: 32 }, (_, exponent) => 2 ** (Math.max(exponent, 1) - 25));
    for (let k = 0; k < halves.length; k++) {
      const half = halves[k], exponent = (half >> 10) & 31; // at 0 there is no leading 1
      numbers[k] = (half >> 15 ? -1 : 1) * ((exponent ? 1024 : 0) + (half & 1023)) * units[exponent];
    }
    return numbers;
  }
  const steps = new Int8Array(decoded(packed.int8)), scales = new Float32Array(decoded(packed.scales));
  const numbers = new Float32Array(steps.length), columns = steps.length / scales.length;
  for (let k = 0; k < steps.length; k++) numbers[k] = steps[k] * scales[Math.floor(k / columns)];
  return numbers;
}

/** A network whose weights are numbers; those of a convolution as ``convolve`` wants them. */
function unpackNetwork(packed) {
  const layers = packed.layers.map((layer) => {
    const unpacked = { ...layer };
    for (const name of ["weight", "bias", "slopes"]) {
      if (layer[name]) unpacked[name] = unpackNumbers(layer[name]);
    }
    if (layer.kind === "conv") unpacked.weight = inFours(unpacked.weight, layer.out);
    return unpacked;
  });
  return { ...packed, layers };
}

/** (rows, columns) → (rows / 4, columns, 4), with rows of zeros at the end where they aren't a multiple. */
function inFours(weight, rows) {
  const columns = weight.length / rows, result = new Float32Array(4 * Math.ceil(rows / 4) * columns);
  for (let row = 0; row < rows; row++) {
    const start = (row - (row % 4)) * columns + (row % 4);
    for (let k = 0; k < columns; k++) result[start + 4 * k] = weight[row * columns + k];
  }
  return result;
}

/**
 * The feature and the logits of an image.
 *
 * @param network of ``unpackNetwork``.
 * @param image 28 × 28 grey levels, 0 to 255, row by row.
 * @returns {feature: [x, y], logits: of the ten digits}.
 */
function forward(network, image) {
  let channels = 1, side = 28;
  let values = Float32Array.from(image, (grey) => (grey - network.mean) / network.std);
  let feature = null;
  for (const layer of network.layers) {
    if (layer.kind === "conv") {
      values = convolve(values, channels, side, layer);
      channels = layer.out;
      side += 2 * layer.padding - layer.size + 1;
    } else if (layer.kind === "pool") {
      values = maxPool(values, channels, side, layer);
      side = Math.floor((side - layer.size) / layer.stride) + 1;
    } else if (layer.kind === "linear") {
      values = multiply(values, layer);
      [channels, side] = [layer.out, 1];
    } else if (layer.kind === "prelu") {
      const area = side * side, each = layer.slopes.length > 1;
      for (let i = 0; i < values.length; i++) {
        if (values[i] < 0) values[i] *= layer.slopes[each ? Math.floor(i / area) : 0];
      }
    } else if (layer.kind === "tanh") {
      values = values.map(Math.tanh);
    } else { // "feature": what the last layer sees
      feature = Array.from(values);
    }
  }
  return { feature, logits: Array.from(values) };
}

/**
 * A convolution of (channels, side, side), by patches times weights: four channels by two pixels at a
 * time, so that each number that is read is used several times, and all are read in a row.
 *
 * @param layer with a weight of ``inFours``.
 */
function convolve(values, channels, side, { out, size, padding, weight, bias }) {
  const sideOut = side + 2 * padding - size + 1, count = sideOut * sideOut, length = channels * size * size;
  const patches = new Float32Array((count + (count % 2)) * length); // (pixels / 2, length, 2)
  for (let y = 0, pixel = 0; y < sideOut; y++) {
    for (let x = 0; x < sideOut; x++, pixel++) {
      let at = (pixel - (pixel % 2)) * length + (pixel % 2);
      for (let channel = 0; channel < channels; channel++) {
        for (let dy = 0; dy < size; dy++) {
          const row = y + dy - padding, start = (channel * side + row) * side + x - padding;
          for (let dx = 0; dx < size; dx++, at += 2) {
            const column = x + dx - padding;
            if (row >= 0 && row < side && column >= 0 && column < side) patches[at] = values[start + dx];
          }
        }
      }
    }
  }
  const result = new Float32Array(out * count);
  for (let pixel = 0; pixel < count; pixel += 2) {
    for (let channel = 0; channel < out; channel += 4) {
      let a1 = 0, a2 = 0, b1 = 0, b2 = 0, c1 = 0, c2 = 0, d1 = 0, d2 = 0;
      for (let k = 0, at = pixel * length, of = channel * length; k < length; k++, at += 2, of += 4) {
        const p = patches[at], q = patches[at + 1];
        const a = weight[of], b = weight[of + 1], c = weight[of + 2], d = weight[of + 3];
        a1 += a * p;
        a2 += a * q;
        b1 += b * p;
        b2 += b * q;
        c1 += c * p;
        c2 += c * q;
        d1 += d * p;
        d2 += d * q;
      }
      const sums = [a1, a2, b1, b2, c1, c2, d1, d2];
      for (let k = 0; k < 8; k++) {
        const to = channel + (k >> 1), where = pixel + (k & 1);
        if (to < out && where < count) result[to * count + where] = sums[k] + bias[to];
      }
    }
  }
  return result;
}

function maxPool(values, channels, side, { size, stride }) {
  const sideOut = Math.floor((side - size) / stride) + 1;
  const result = new Float32Array(channels * sideOut * sideOut).fill(-Infinity);
  for (let channel = 0, at = 0; channel < channels; channel++) {
    for (let y = 0; y < sideOut; y++) {
      for (let x = 0; x < sideOut; x++, at++) {
        for (let dy = 0; dy < size; dy++) {
          for (let dx = 0; dx < size; dx++) {
            const value = values[(channel * side + y * stride + dy) * side + x * stride + dx];
            if (value > result[at]) result[at] = value;
          }
        }
      }
    }
  }
  return result;
}

/** A fully connected layer. */
function multiply(values, { out, weight, bias }) {
  return Float32Array.from({ length: out }, (_, row) => {
    let sum = bias ? bias[row] : 0;
    for (let k = 0; k < values.length; k++) sum += weight[row * values.length + k] * values[k];
    return sum;
  });
}

/** In a worker: {run, packed?, image, ticket} is answered by {run, ticket, feature, logits}. */
function serveForwards() {
  const networks = new Map();
  onmessage = ({ data: { run, packed, image, ticket } }) => {
    if (packed) networks.set(run, unpackNetwork(packed));
    postMessage({ run, ticket, ...forward(networks.get(run), image) });
  };
}
const FORWARD_FUNCTIONS = [unpackNumbers, inFours, unpackNetwork, convolve, maxPool, multiply, forward, serveForwards];
