// What the runs' networks make of the drawing on the pad: the chosen run's follows the pen, those of the
// others come when it rests.

const REST = 250; // milliseconds without a change
const TRAIL = 300; // places that a trail keeps
const NEIGHBOURS = 5;

/**
 * @param runs each with its ``network``, of weights.py.
 * @param chosenRun () → the number of the run that comes first.
 * @param changed called when there is something new to show.
 * @returns {show(image), follow(), image(), resultOf(r), isDone()}: show takes 28 × 28 levels, or null for
 *   an empty pad; follow is called when another run was chosen; resultOf takes a run's number and returns
 *   {feature, logits, trail: [[x, y], …]} or null.
 */
function followDrawing(runs, chosenRun, changed) {
  let image = null, version = 0; // the version counts changes
  let sheet = 0; // counts empty pads: a result from before isn't of this drawing
  let changedAt = 0, busy = false;
  const results = runs.map(() => null), sent = new Set();
  let send = null; // to the networks, which aren't started before something is drawn

  function startNetworks() {
    const inPage = () => {
      const networks = new Map();
      return (message) => setTimeout(() => {
        if (message.packed) networks.set(message.run, unpackNetwork(message.packed));
        answer({ ...message, ...forward(networks.get(message.run), message.image) });
      });
    };
    try {
      const worker = startWorker(FORWARD_FUNCTIONS, answer);
      worker.onerror = () => { // a browser that lets a file have none
        send = inPage();
        sent.clear();
        busy = false;
        ask();
      };
      return (message) => worker.postMessage(message);
    } catch {
      return inPage();
    }
  }

  const isBehind = (r) => runs[r].network.layers && (results[r]?.version ?? -1) < version;

  function post(r, ticket) {
    busy = true;
    send ??= startNetworks();
    send({ run: r, image: image ?? new Uint8Array(28 * 28), ticket, packed: sent.has(r) ? undefined : runs[r].network });
    sent.add(r);
  }

  function ask() {
    if (busy) return;
    if (!image) { // the chosen run's network gets ready for the first stroke
      if (runs[chosenRun()].network.layers && !sent.has(chosenRun())) post(chosenRun(), { sheet: NaN });
      return;
    }
    const isResting = performance.now() - changedAt >= REST;
    const r = isBehind(chosenRun()) ? chosenRun() : isResting ? runs.findIndex((_, k) => isBehind(k)) : -1;
    if (r >= 0) post(r, { sheet, version });
  }

  function answer({ run, ticket, feature, logits }) {
    busy = false;
    if (ticket.sheet === sheet && image) {
      const trail = [...(results[run]?.trail ?? []), feature].slice(-TRAIL);
      results[run] = { feature, logits, trail, version: ticket.version };
      changed();
    }
    ask();
  }

  return {
    show(next) {
      if (!next && image) {
        results.fill(null);
        sheet++;
      }
      image = next;
      version++;
      changedAt = performance.now();
      changed();
      ask();
      setTimeout(ask, REST + 10);
    },
    follow: ask,
    image: () => image,
    resultOf: (r) => results[r],
    isDone: () => !busy && (!image || !runs.some((_, r) => isBehind(r))),
  };
}

/** The share of each digit, by softmax. */
function probabilitiesOf(logits) {
  const most = Math.max(...logits), shares = logits.map((each) => Math.exp(each - most));
  const sum = shares.reduce((a, b) => a + b);
  return shares.map((each) => each / sum);
}

/**
 * The test images whose features are nearest to one.
 *
 * @param places (N, 2) flat.
 */
function neighboursOf([x, y], places) {
  const best = []; // [distance², image], ascending
  for (let i = 0; i < places.length / 2; i++) {
    const distance = (places[2 * i] - x) ** 2 + (places[2 * i + 1] - y) ** 2;
    if (best.length === NEIGHBOURS && distance >= best.at(-1)[0]) continue;
    best.push([distance, i]);
    best.sort((a, b) => a[0] - b[0]);
    best.length = Math.min(best.length, NEIGHBOURS);
  }
  return best.map(([, i]) => i);
}
