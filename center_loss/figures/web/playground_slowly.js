// "One step, slowly": eight images, and Eq. 2 to 4 with their numbers filled in.
//
// What is computed comes from the engine's ``explain``; here it is only drawn and written.

const STAGES = ["images", "loss", "pull", "centers", "taken"];
const CIRCLED = "①②③④⑤⑥⑦⑧";

const slowly = {
  stage: 0,
  seed: 1,
  about: null, // what the worker explained
  after: null, // the eight features after the step, (16,)
  plane: null,
  near: null, // the digit that is looked at, null: all
  reach: 1,
  middle: [0, 0],

  open() {
    if ($("slow").open) return;
    if (playing) play(false);
    $("slow").showModal();
    this.plane ??= this.makePlane();
    this.ask();
  },

  makePlane() {
    const plane = new Plane($("slow-canvas"), colours, () => this.redraw());
    plane.listen({ hover() {}, choose() {}, chooseMiddle() {} });
    plane.followSize();
    return plane;
  },

  ask() {
    this.stage = 0;
    this.after = null;
    order("explain", { seed: this.seed });
  },

  explained(about) {
    this.about = about;
    this.look(null);
    this.show();
  },

  stepped({ features }) {
    this.after = features;
    this.stage = STAGES.indexOf("taken");
    this.look(null);
    this.show();
  },

  /** Choose the view that shows all of it, or one digit alone. */
  look(digit) {
    const { features, centers, moved, labels } = this.about;
    const isMeant = (j) => digit === null || j === digit;
    const ofImages = (flat) => labels.flatMap((j, b) => (isMeant(j) ? [flat[2 * b], flat[2 * b + 1]] : []));
    const ofDigits = (flat) => [...new Set(labels)].filter(isMeant).flatMap((j) => [flat[2 * j], flat[2 * j + 1]]);
    const all = [...ofImages(features), ...ofDigits(centers), ...ofDigits(moved), ...(this.after ? ofImages(this.after) : [])];
    const xs = all.filter((_, i) => i % 2 === 0), ys = all.filter((_, i) => i % 2 === 1);
    const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    this.near = digit;
    this.reach = 1.3 * Math.max((right - left) / 2, (high - low) / 2, 1e-6);
    this.middle = [(left + right) / 2, (low + high) / 2];
    if (this.plane) Object.assign(this.plane.view, { x: this.middle[0] / this.reach, y: this.middle[1] / this.reach, zoom: 1 });
    [...$("eight").tBodies[0].rows].forEach((row, b) => row.classList.toggle("near", labels[b] === digit));
    this.redraw();
  },

  goTo(stage) {
    if (stage < 0 || stage >= STAGES.length || !this.about) return;
    if (STAGES[stage] === "taken" && !this.after) {
      order("stepWith", { batch: this.about.batch });
      return;
    }
    this.stage = stage;
    this.show();
  },

  // ---- words and numbers

  show() {
    if (!this.about || !$("slow").open) return;
    const stage = STAGES[this.stage], { name } = this.about;
    [...$("stages").children].forEach((button, k) => {
      button.textContent = `${k + 1} ${say(`stage-${STAGES[k]}`)}`;
      button.setAttribute("aria-pressed", k === this.stage);
    });
    const own = `slow-${stage}-${name}`;
    $("slow-say").textContent = say(own in WORDS ? own : `slow-${stage}`, { lam: short(this.about.lam) });
    $("equations").innerHTML = this.equations(stage).map((line) => `<p>${line}</p>`).join("");
    $("slow-back").disabled = this.stage === 0;
    $("slow-next").disabled = this.stage === STAGES.length - 1;
    $("slow-next").textContent = say(STAGES[this.stage + 1] === "taken" && !this.after ? "slow-take" : "slow-next");
    this.table();
    this.redraw();
  },

  equations(stage) {
    const { name, labels, features, squared, gradients, loss, factor, deltas, counts, centers, moved, alpha, momentum, velocity, lam } = this.about;
    const size = labels.length, half = factor === 0.5;
    if (stage === "loss") {
      return [
        `<i>L<sub>C</sub></i> = ${half ? `1/(2·${size})` : `1/${size}`} Σ ‖<i>x<sub>i</sub></i> − <i>c</i>‖²`,
        `= ${half ? `1/${2 * size}` : `1/${size}`} · (${squared.map(short).join(" + ")})`,
        `= <b data-value="loss">${short(loss)}</b>`,
      ];
    }
    if (stage === "pull") {
      const j = labels[0];
      return [
        `∂<i>L<sub>C</sub></i>/∂<i>x<sub>i</sub></i> = ${half ? "" : "2 · ("}<i>x<sub>i</sub></i> − <i>c</i>${half ? "" : ")"}`,
        `${CIRCLED[0]}: ${half ? "" : "2 · ("}${pair(features, 0)} − ${pair(centers, j)}${half ? "" : ")"} = <b data-value="gradient">${pair(gradients, 0)}</b>`,
        say("slow-share", { share: `λ/${size} = ${lam < settings.lam ? lam.toPrecision(2) : spoken(lam)}/${size}` }),
      ];
    }
    if (stage === "centers") {
      const digits = [...new Set(labels)];
      return digits.flatMap((j) => {
        const own = labels.flatMap((label, b) => (label === j ? [b] : []));
        const terms = own.map((b) => `(<i>c</i><sub>${j}</sub> − ${CIRCLED[b]})`).join(" + ");
        const d = `<b data-value="delta" data-digit="${j}">${pair(deltas, j)}</b>`;
        const value = name === "pytorch_center_loss" ? `2/${size} · [${terms}]` : `[${terms}] / (1 + ${counts[j]})`;
        const to = `<b data-value="moved" data-digit="${j}">${pair(moved, j)}</b>`;
        const step = momentum
          ? `<i>v</i> ← ${momentum}·${pair(velocity, j)} + ${alpha}·Δ<i>c</i><sub>${j}</sub>, <i>c</i><sub>${j}</sub> ← ${pair(centers, j)} − <i>v</i> = ${to}`
          : `<i>c</i><sub>${j}</sub> ← ${pair(centers, j)} − ${alpha}·Δ<i>c</i><sub>${j}</sub> = ${to}`;
        return [`Δ<i>c</i><sub>${j}</sub> = ${value} = ${d}<br>${step}`];
      });
    }
    return [];
  },

  table() {
    const { batch, labels, features, centers, squared, gradients } = this.about;
    const { after } = this, stage = STAGES[this.stage];
    const more = { // what each stage adds to the features and the centers
      loss: ["‖<i>x<sub>i</sub></i> − <i>c</i>‖²", (b) => short(squared[b])],
      pull: ["∂<i>L<sub>C</sub></i>/∂<i>x<sub>i</sub></i>", (b) => pair(gradients, b)],
      taken: [say("slow-after"), (b) => (after ? pair(after, b) : "")],
    }[stage];
    const columns = ["", "", "<i>x<sub>i</sub></i>", "<i>c</i>", ...(more ? [more[0]] : [])];
    $("eight").tHead.innerHTML = `<tr>${columns.map((name) => `<th>${name}</th>`).join("")}</tr>`;
    $("eight").tBodies[0].replaceChildren(...batch.map((image, b) => {
      const row = document.createElement("tr"), picture = document.createElement("canvas");
      picture.width = picture.height = 14;
      picture.className = "thumb";
      picture.style.borderColor = colours.digits[labels[b]];
      paintImage(picture, sets.train.images, image);
      const cells = [CIRCLED[b], "", pair(features, b), `<i>c</i><sub>${labels[b]}</sub> = ${pair(centers, labels[b])}`];
      if (more) cells.push(more[1](b));
      row.innerHTML = cells.map((text) => `<td>${text}</td>`).join("");
      row.cells[1].append(picture);
      row.title = say("slow-near", { digit: labels[b] });
      row.classList.toggle("near", labels[b] === this.near);
      row.addEventListener("click", () => this.look(this.near === labels[b] ? null : labels[b]));
      return row;
    }));
  },

  // ---- the picture

  redraw() {
    if (!this.plane || !this.about || this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      if (this.plane.pixels) this.draw();
    });
  },

  draw() {
    const { plane, reach, after } = this, { paper } = plane, { ink, digits } = colours;
    const { features, labels, centers, moved } = this.about, stage = STAGES[this.stage];
    const at = (flat, k) => [plane.toX(flat[2 * k] / reach), plane.toY(flat[2 * k + 1] / reach)];
    const taken = stage === "taken";
    plane.clear();
    plane.drawGrid(reach);
    paper.font = `14px ${plane.font}`;
    labels.forEach((j, b) => {
      const [x, y] = at(features, b), [cx, cy] = at(centers, j);
      if (stage === "loss") drawLine(paper, x, y, cx, cy, digits[j], [5, 4]);
      const short = 1 - Math.min(8 / Math.hypot(cx - x, cy - y), 1); // up to the center's rim
      if (stage === "pull") drawArrow(paper, x, y, lerp(x, cx, short), lerp(y, cy, short), digits[j]);
    });
    for (const j of new Set(labels)) {
      const [x, y] = at(centers, j), [toX, toY] = at(moved, j);
      paper.globalAlpha = taken ? 0.4 : 1;
      plane.drawCenter(x, y, 6);
      paper.globalAlpha = 1;
      if (stage === "centers" || taken) drawArrow(paper, x, y, toX, toY, ink.front);
      if (taken) plane.drawCenter(toX, toY, 6);
      paper.font = `600 14px ${plane.font}`;
      const [nameX, nameY] = taken ? [toX, toY] : [x, y];
      plane.write(`c${j}`, nameX, nameY + 22, "center", ink.front);
    }
    labels.forEach((j, b) => {
      const [x, y] = at(features, b);
      if (taken && after) {
        drawDot(paper, x, y, 7, digits[j], 0.25);
        drawArrow(paper, x, y, ...at(after, b), digits[j]);
      }
      const [px, py] = taken && after ? at(after, b) : [x, y];
      drawDot(paper, px, py, 7, digits[j], 1);
      paper.font = `15px ${plane.font}`;
      plane.write(CIRCLED[b], px, py - 12, "center", ink.front);
    });
  },
};

const signed = (v) => `${v < 0 ? "−" : ""}${short(Math.abs(v))}`;
const pair = (flat, k) => `(${signed(flat[2 * k])}, ${signed(flat[2 * k + 1])})`;

function drawDot(paper, x, y, radius, color, opacity) {
  paper.globalAlpha = opacity;
  paper.fillStyle = color;
  paper.beginPath();
  paper.arc(x, y, radius, 0, 2 * Math.PI);
  paper.fill();
  paper.globalAlpha = 1;
}

function drawLine(paper, x0, y0, x1, y1, color, dash = []) {
  paper.strokeStyle = color;
  paper.lineWidth = 2.5;
  paper.setLineDash(dash);
  paper.beginPath();
  paper.moveTo(x0, y0);
  paper.lineTo(x1, y1);
  paper.stroke();
  paper.setLineDash([]);
}

/** An arrow; of one that is too short for its head the head alone is smaller. */
function drawArrow(paper, x0, y0, x1, y1, color) {
  const length = Math.hypot(x1 - x0, y1 - y0);
  if (length < 1) return;
  const head = Math.min(11, 0.6 * length), ux = (x1 - x0) / length, uy = (y1 - y0) / length;
  drawLine(paper, x0, y0, x1 - 0.8 * head * ux, y1 - 0.8 * head * uy, color);
  paper.fillStyle = color;
  paper.beginPath();
  paper.moveTo(x1, y1);
  paper.lineTo(x1 - head * ux - 0.5 * head * uy, y1 - head * uy + 0.5 * head * ux);
  paper.lineTo(x1 - head * ux + 0.5 * head * uy, y1 - head * uy - 0.5 * head * ux);
  paper.fill();
}

for (const [k] of STAGES.entries()) {
  const button = document.createElement("button");
  button.type = "button";
  button.addEventListener("click", () => slowly.goTo(k));
  $("stages").append(button);
}
$("slowly").addEventListener("click", () => slowly.open());
$("slow-close").addEventListener("click", () => $("slow").close());
$("slow-back").addEventListener("click", () => slowly.goTo(slowly.stage - 1));
$("slow-next").addEventListener("click", () => slowly.goTo(slowly.stage + 1));
$("slow-others").addEventListener("click", () => {
  slowly.seed++;
  slowly.ask();
});
$("slow").addEventListener("keydown", (event) => {
  const by = event.target.matches("canvas") ? undefined : { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (by) slowly.goTo(slowly.stage + by);
});
