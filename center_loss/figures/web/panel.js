// The part of the page for drawing: the pad, the image that the network sees, and what it makes of it.

/**
 * @param colours of ``watchColours``.
 * @param say of ``speak``.
 * @param chosenRun () → the chosen run's number.
 * @param chooseRun called with a run's number.
 * @param hold called with a test image's number.
 * @param redraw asks the page to draw.
 */
function createPanel({ colours, say, chosenRun, chooseRun, hold, redraw }) {
  const pad = createPad($("pad"), colours, inkChanged);
  const following = followDrawing(runs, chosenRun, showSoon);
  const hasPad = runs.some((run) => run.network.layers);
  const networkOf = () => runs[chosenRun()].network;
  let small = null, isInkNew = false, isStale = true;

  for (let digit = 0; digit < DIGITS; digit++) {
    const column = document.createElement("div");
    column.append(document.createElement("i"), String(digit));
    $("bars").append(column);
  }
  for (let k = 0; k < NEIGHBOURS; k++) {
    const button = document.createElement("button"), canvas = document.createElement("canvas");
    canvas.width = canvas.height = 28;
    button.type = "button";
    button.append(canvas, document.createElement("b"));
    button.addEventListener("click", () => hold(Number(button.dataset.image)));
    $("neighbours").append(button);
  }
  $("undo").addEventListener("click", pad.undo);
  $("clear").addEventListener("click", pad.clear);

  function inkChanged() {
    isInkNew = true;
    showSoon();
  }

  function showSoon() {
    isStale = true;
    redraw();
  }

  /** A run's place of the drawing and those before, relative to its reach. */
  function markOf(r) {
    const result = following.resultOf(r), { reach } = runs[r].end;
    if (!result) return null;
    const digit = result.logits.indexOf(Math.max(...result.logits));
    return { path: result.trail.map((feature) => feature.map((v) => v / reach)), rgb: colours.rgb[digit], text: String(digit) };
  }

  /** Once before each frame: what changed since the last one. */
  function update() {
    if (isInkNew) {
      isInkNew = false;
      following.show(pad.isEmpty() ? null : prepareDigit(pad.ink(), RASTER));
    }
    if (!isStale) return;
    isStale = false;
    const result = following.resultOf(chosenRun()), { missing } = networkOf();
    $("missing").hidden = !missing;
    $("missing").textContent = missing ? say(`missing-${missing}`) : "";
    $("with-pad").hidden = !hasPad;
    $("result").hidden = !result || Boolean(missing);
    $("hint").hidden = Boolean(result || missing);
    $("undo").disabled = !pad.canUndo();
    $("clear").disabled = pad.isEmpty();
    showSeen();
    if (result && !missing) showResult(result);
    if (runs.length > 1) {
      small ??= createSmallPlanes($("small"), runs, colours, chooseRun);
      small.draw(runs.map((_, r) => markOf(r)), chosenRun());
    }
  }

  /** The image as the network sees it: white on black. */
  function showSeen() {
    const seen = new ImageData(28, 28), image = following.image();
    for (let at = 0; at < 28 * 28; at++) {
      seen.data.fill(image ? image[at] : 0, 4 * at, 4 * at + 3);
      seen.data[4 * at + 3] = 255;
    }
    $("seen").getContext("2d").putImageData(seen, 0, 0);
  }

  function showResult({ feature, logits }) {
    const run = runs[chosenRun()], shares = probabilitiesOf(logits);
    const digit = shares.indexOf(Math.max(...shares));
    $("result").ariaLive = pad.isDown() ? "off" : "polite"; // else a screen reader would hear every place
    const most = inWords(shares[digit]).replace("<", "&lt;").replace(">", "&gt;");
    $("taken").innerHTML = say("taken", { digit: `<b>${digit}</b>`, share: most });
    $("away").textContent = distanceText(run, feature, digit);
    [...$("bars").children].forEach((column, j) => {
      column.firstChild.style.height = `${100 * shares[j]}%`;
      column.firstChild.style.background = colours.digits[j];
      column.classList.toggle("most", j === digit);
    });
    const list = shares.map((share, j) => `${j}: ${inWords(share)}`).join(", ");
    $("bars").setAttribute("aria-label", say("bars", { list }));
    const near = neighboursOf(feature.map((v) => v / run.end.reach / UNIT), run.features);
    [...$("neighbours").children].forEach((button, k) => {
      const i = near[k], name = say("neighbour", { i: i?.toLocaleString("en"), digit: labels[i] });
      button.hidden = i === undefined;
      if (i === undefined) return;
      drawImageOf(i, button.firstChild);
      button.lastChild.textContent = labels[i];
      button.lastChild.style.borderColor = colours.digits[labels[i]];
      button.dataset.image = i;
      button.title = name;
      button.setAttribute("aria-label", name);
    });
  }

  /** How far the drawing is from its digit's center, and how many test images are nearer to it. */
  function distanceText(run, [x, y], digit) {
    if (!run.present[digit]) return "";
    const [cx, cy] = run.end.centers[digit], unit = UNIT * run.end.reach;
    const away = Math.hypot(x - cx, y - cy);
    let count = 0, nearer = 0;
    run.predictions.forEach((prediction, i) => {
      if (prediction !== digit) return;
      count++;
      nearer += Math.hypot(run.features[2 * i] * unit - cx, run.features[2 * i + 1] * unit - cy) < away;
    });
    const values = { away: threeDigits(away), digit, share: inWords(count ? nearer / count : 1) };
    const place = say(run.hasCenters ? "away-center" : "away-mean", values);
    return place + say(nearer === count ? "farther-than-all" : "farther-than", values);
  }

  /** A share in per cent; nearly all or nothing isn't said to be all or nothing. */
  function inWords(share) {
    const percent = 100 * share;
    if (percent > 99.9 && percent < 100) return ">\u00a099.9\u00a0%";
    if (percent < 0.1 && percent > 0) return "<\u00a00.1\u00a0%";
    return `${percent.toFixed(percent > 99 || percent < 1 ? 1 : 0)}\u00a0%`; // in one line
  }

  return {
    pad, following, update, markOf, showSoon,
    repaint() {
      small?.repaint();
      pad.paint();
      showSoon();
    },
    /** The pad was opened, or another run was chosen. */
    follow() {
      following.follow();
      showSoon();
    },
  };
}
