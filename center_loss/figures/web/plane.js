// A plane of 2-D features on a canvas: its view, what moves it, and what can be drawn in it.
//
// Places are relative to a reach: the whole picture goes from −1 to 1, whatever the features' scale.
// When to draw, and what, is the page's: it is asked to by ``redraw``.

const NEAR = 14; // pixels from a dot at which it is meant
const PHASES = 4; // places of a dot within a pixel, each way: dots glide instead of jumping
const stamps = new Map(); // by radius, opacity and hole

class Plane {
  /**
   * @param canvas its element; its size is the style sheet's.
   * @param colours of ``watchColours``.
   * @param redraw asks the page to draw.
   */
  constructor(canvas, colours, redraw) {
    this.canvas = canvas;
    this.paper = canvas.getContext("2d");
    this.colours = colours;
    this.redraw = redraw;
    this.view = { x: 0, y: 0, zoom: 1 }; // what is in the middle, relative to the reach
    this.width = 0; // in CSS pixels
    this.height = 0;
    this.ratio = 1; // of the canvas's pixels to those
    this.pixels = null; // until the canvas is shown
    this.layer = document.createElement("canvas");
    this.layerPaper = this.layer.getContext("2d");
    this.font = getComputedStyle(document.body).fontFamily;
  }

  // ---- size and scale

  /** Follow the canvas's size, and the density of the screen that the window is on. */
  followSize() {
    new ResizeObserver(() => this.fit()).observe(this.canvas);
    const watchRatio = () => {
      const screenOf = matchMedia(`(resolution: ${devicePixelRatio}dppx)`);
      screenOf.addEventListener("change", () => { this.fit(); watchRatio(); }, { once: true });
    };
    watchRatio();
    this.fit();
  }

  fit() {
    const { canvas, layer } = this;
    if (!canvas.clientWidth || !canvas.clientHeight) return; // not shown yet
    this.ratio = Math.min(devicePixelRatio || 1, 2);
    this.width = canvas.clientWidth;
    this.height = canvas.clientHeight;
    canvas.width = layer.width = Math.round(this.width * this.ratio);
    canvas.height = layer.height = Math.round(this.height * this.ratio);
    this.pixels = this.layerPaper.createImageData(canvas.width, canvas.height);
    this.redraw();
  }

  /** Pixels a unit (the reach) takes. */
  scale() {
    return (Math.min(this.width, this.height) / 2) * this.view.zoom;
  }

  toX(u) {
    return this.width / 2 + (u - this.view.x) * this.scale();
  }

  toY(v) {
    return this.height / 2 - (v - this.view.y) * this.scale();
  }

  /** Write where places (N, 2) are, in pixels, into (N, 2). */
  project(places, into) {
    const s = this.scale(), left = this.width / 2 - this.view.x * s, top = this.height / 2 + this.view.y * s;
    for (let i = 0; i < places.length; i += 2) {
      into[i] = left + places[i] * s;
      into[i + 1] = top - places[i + 1] * s;
    }
  }

  // ---- drawing

  clear() {
    this.paper.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    this.paper.clearRect(0, 0, this.width, this.height);
  }

  /**
   * Where the last layer chooses each digit: the view, cut by the line between it and each other.
   *
   * @param moment {weight (C, 2), bias (C) or null, reach}.
   * @param isMeant by digit: the others are fainter.
   */
  drawRegions({ weight, bias, reach }, isMeant = () => true) {
    const { paper, view, width, height } = this, { ink, digits } = this.colours, s = this.scale();
    const corners = [[-1, -1], [1, -1], [1, 1], [-1, 1]].map(([a, b]) => [
      view.x + (a * width) / 2 / s, view.y + (b * height) / 2 / s]);
    for (let i = 0; i < weight.length; i++) {
      let polygon = corners;
      for (let j = 0; j < weight.length && polygon.length; j++) {
        if (j === i) continue;
        const a = (weight[i][0] - weight[j][0]) * reach, b = (weight[i][1] - weight[j][1]) * reach;
        const c = bias ? bias[i] - bias[j] : 0;
        polygon = cutPolygon(polygon, ([u, v]) => a * u + b * v + c);
      }
      if (!polygon.length) continue;
      paper.beginPath();
      polygon.forEach(([u, v]) => paper.lineTo(this.toX(u), this.toY(v)));
      paper.closePath();
      paper.globalAlpha = isMeant(i) ? ink.regionAlpha : ink.regionAlpha / 3;
      paper.fillStyle = digits[i];
      paper.fill();
    }
    paper.globalAlpha = 1;
  }

  /** Grid lines at round numbers, with the numbers along the left and the lower edge. */
  drawGrid(reach) {
    const { paper, view, width, height } = this, { ink } = this.colours;
    const s = this.scale() / reach; // pixels a unit of the features takes
    const rough = 90 / s, power = 10 ** Math.floor(Math.log10(rough));
    const gap = power * [1, 2, 5, 10].find((m) => m * power >= rough);
    const digits = Math.max(0, -Math.floor(Math.log10(gap) + 1e-9));
    const name = (v) => v.toLocaleString("en", { maximumFractionDigits: digits }).replace("-", "−");
    paper.lineWidth = 1;
    paper.font = `12px ${this.font}`;
    const texts = [];
    const from = (middle, size) => Math.ceil((middle * reach - size / 2 / s) / gap);
    const to = (middle, size) => Math.floor((middle * reach + size / 2 / s) / gap);
    paper.strokeStyle = ink.grid;
    paper.beginPath();
    for (let k = from(view.x, width); k <= to(view.x, width); k++) {
      const x = Math.round(this.toX((k * gap) / reach)) + 0.5;
      paper.moveTo(x, 0);
      paper.lineTo(x, height);
      if (x > 44 && x < width - 24) texts.push([name(k * gap + 0), x, height - 6, "center"]);
    }
    for (let k = from(view.y, height); k <= to(view.y, height); k++) {
      const y = Math.round(this.toY((k * gap) / reach)) + 0.5;
      paper.moveTo(0, y);
      paper.lineTo(width, y);
      if (y > 14 && y < height - 26) texts.push([name(k * gap + 0), 6, y + 4, "left"]);
    }
    paper.stroke();
    for (const [text, x, y, align] of texts) this.write(text, x, y, align, ink.muted);
  }

  /** Text with a rim in the background's colour, which is read on anything. */
  write(text, x, y, align, color) {
    const { paper } = this;
    paper.textAlign = align;
    paper.lineJoin = "round";
    paper.lineWidth = 3;
    paper.strokeStyle = this.colours.ink.back;
    paper.strokeText(text, x, y);
    paper.fillStyle = color;
    paper.fillText(text, x, y);
  }

  /** The radius of one of ``count`` dots, in CSS pixels. */
  dotRadius(count) {
    return Math.min(Math.max(2 * (10000 / count) ** 0.25, 2), 3.2) * Math.min(this.view.zoom ** 0.35, 2.5);
  }

  /**
   * Dots, blended into an array of pixels: without a graphics card several times as fast as 10,000
   * calls of the canvas, and with one fast enough.
   *
   * @param screen (N, 2), of ``project``.
   * @param layers each {which: numbers of dots, only: (i) → whether it is drawn, radius in CSS pixels,
   *   hole: radius of the hole of a ring or nothing, opacity, color: (i) → [red, green, blue]}, the
   *   lowest first.
   */
  drawDots(screen, layers) {
    const { paper, ratio, pixels } = this;
    new Uint32Array(pixels.data.buffer).fill(0);
    for (const { which, only, radius, hole, opacity, color } of layers) {
      const rounded = Math.round(4 * radius * ratio) / 4;
      const dot = stampOf(rounded, opacity, hole === undefined ? -1 : Math.round(4 * hole * ratio) / 4);
      for (const i of which) {
        if (!only || only(i)) stampInto(pixels, dot, screen[2 * i] * ratio, screen[2 * i + 1] * ratio, color(i));
      }
    }
    this.layerPaper.putImageData(pixels, 0, 0);
    paper.setTransform(1, 0, 0, 1, 0, 0);
    paper.drawImage(this.layer, 0, 0);
    paper.setTransform(ratio, 0, 0, ratio, 0, 0);
  }

  /**
   * White dots with a name outside of each, as the paper has them.
   *
   * @param centers (C, 2), of features.
   * @param isShown by digit.
   * @param letter before the digit: c, or μ for the mean of a class.
   */
  drawCenters(centers, reach, isShown, letter) {
    const { paper } = this;
    paper.font = `600 14px ${this.font}`;
    centers.forEach(([x, y], j) => {
      if (!isShown(j)) return;
      const px = this.toX(x / reach), py = this.toY(y / reach);
      this.drawCenter(px, py, 5.5);
      const length = Math.hypot(x, y) || 1;
      this.write(`${letter}${j}`, px + (17 * x) / length, py - (17 * y) / length + 5, "center", this.colours.ink.front);
    });
  }

  /** A center's white dot, at a place in pixels. */
  drawCenter(x, y, radius) {
    const { paper } = this;
    paper.fillStyle = "#ffffff";
    paper.strokeStyle = "#000000";
    paper.lineWidth = 1.6;
    this.circle(x, y, radius);
    paper.fill();
    paper.stroke();
  }

  /** A ring with a dark and a light line, which is seen on anything. */
  drawRing(x, y, radius) {
    const { paper } = this, { ink } = this.colours;
    for (const [thick, color] of [[6, ink.back], [3, ink.front]]) {
      paper.lineWidth = thick;
      paper.strokeStyle = color;
      this.circle(x, y, radius);
      paper.stroke();
    }
  }

  /**
   * A line through places, relative to the reach, that fades towards its beginning.
   *
   * @param path [[u, v], …].
   */
  drawPath(path, color, thick) {
    const { paper } = this;
    paper.lineCap = "round";
    for (const [wide, drawn] of [[thick + 2.5, this.colours.ink.back], [thick, color]]) {
      paper.lineWidth = wide;
      paper.strokeStyle = drawn;
      for (let k = 1; k < path.length; k++) {
        paper.globalAlpha = 0.15 + (0.85 * k) / path.length;
        paper.beginPath();
        for (const [u, v] of [path[k - 1], path[k]]) paper.lineTo(this.toX(u), this.toY(v));
        paper.stroke();
      }
    }
    paper.globalAlpha = 1;
  }

  /**
   * A large dot with a rim, and a text in it. Outside of the view it is an arrow at the edge.
   *
   * @param u, v its place, relative to the reach.
   * @param rgb [red, green, blue].
   */
  drawMark(u, v, rgb, radius, text = "") {
    const { paper, width, height } = this, { ink } = this.colours, edge = radius + 4;
    const x = this.toX(u), y = this.toY(v);
    const px = Math.min(Math.max(x, edge), width - edge), py = Math.min(Math.max(y, edge), height - edge);
    if (px !== x || py !== y) {
      const angle = Math.atan2(y - py, x - px), tip = 1.9 * radius;
      paper.beginPath();
      for (const [turn, far] of [[0, tip], [0.75, radius], [-0.75, radius]]) {
        paper.lineTo(px + far * Math.cos(angle + turn), py + far * Math.sin(angle + turn));
      }
      paper.closePath();
      paper.fillStyle = ink.front;
      paper.fill();
    }
    this.circle(px, py, radius);
    paper.fillStyle = `rgb(${rgb})`;
    paper.fill();
    this.drawRing(px, py, radius);
    if (!text) return;
    const isLight = 0.3 * rgb[0] + 0.59 * rgb[1] + 0.11 * rgb[2] > 140;
    paper.font = `700 ${Math.round(1.35 * radius)}px ${this.font}`;
    paper.textAlign = "center";
    paper.fillStyle = isLight ? "#000000" : "#ffffff";
    paper.fillText(text, px, py + 0.47 * radius);
  }

  /** Put an element beside a place in pixels, or where that is null into a corner, where it hides less. */
  placeCard(card, place) {
    const w = card.offsetWidth, h = card.offsetHeight, gap = 16, { width, height } = this;
    let x = 8, y = 8;
    if (place) {
      x = place[0] + gap + w < width ? place[0] + gap : place[0] - gap - w;
      y = place[1] - h / 2;
    }
    card.style.transform = `translate(${Math.min(Math.max(x, 4), width - w - 4)}px, ${Math.min(Math.max(y, 4), height - h - 4)}px)`;
  }

  circle(x, y, radius) {
    this.paper.beginPath();
    this.paper.arc(x, y, radius, 0, 2 * Math.PI);
  }

  // ---- zoom and pan

  /** Zoom by a factor; what is at (x, y) of the canvas stays there. */
  zoomBy(factor, x = this.width / 2, y = this.height / 2) {
    const { view } = this, zoom = Math.min(Math.max(view.zoom * factor, 0.3), 500);
    const u = view.x + (x - this.width / 2) / this.scale(), v = view.y - (y - this.height / 2) / this.scale();
    view.zoom = zoom;
    view.x = u - (x - this.width / 2) / this.scale();
    view.y = v + (y - this.height / 2) / this.scale();
    this.panBy(0, 0);
  }

  panBy(x, y) {
    const within = (v) => Math.min(Math.max(v, -1.2), 1.2); // the picture isn't lost
    this.view.x = within(this.view.x - x / this.scale());
    this.view.y = within(this.view.y + y / this.scale());
    this.leaveTouch();
  }

  /** Show the whole picture. */
  reset() {
    this.view = { x: 0, y: 0, zoom: 1 };
    this.leaveTouch();
  }

  /** The whole picture leaves a finger's way up and down to the page, to scroll it. */
  leaveTouch() {
    this.canvas.style.touchAction = this.view.zoom > 1.05 ? "none" : "pan-y";
    this.redraw();
  }

  /**
   * Let mouse, fingers and arrow keys move the plane.
   *
   * @param hover called with (x, y) where a mouse or pen is, and with nothing when it has left.
   * @param choose called with (x, y) of a click or a tap.
   * @param chooseMiddle called for Enter.
   */
  listen({ hover, choose, chooseMiddle }) {
    const { canvas } = this;
    const fingers = new Map(); // the pointers that are down, and where
    let moved = 0; // pixels since the first came down; with a second one it is no tap any more
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || event.ctrlKey) return; // a context menu
      canvas.setPointerCapture(event.pointerId);
      moved = fingers.size ? Infinity : 0;
      fingers.set(event.pointerId, [event.offsetX, event.offsetY]);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!event.buttons) fingers.delete(event.pointerId); // it went up elsewhere
      const at = [event.offsetX, event.offsetY], was = fingers.get(event.pointerId);
      if (!was) {
        if (event.pointerType !== "touch") hover(...at);
        return;
      }
      moved += Math.hypot(at[0] - was[0], at[1] - was[1]);
      const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1];
      if (other) {
        const distance = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]);
        this.zoomBy(distance(at) / Math.max(distance(was), 1), (at[0] + other[0]) / 2, (at[1] + other[1]) / 2);
        this.panBy((at[0] - was[0]) / 2, (at[1] - was[1]) / 2);
      } else if (moved > 5) {
        canvas.classList.add("dragged");
        this.panBy(at[0] - was[0], at[1] - was[1]);
      }
      fingers.set(event.pointerId, at);
    });
    for (const kind of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(kind, (event) => {
        if (kind === "pointerup" && fingers.has(event.pointerId) && moved <= 5) choose(event.offsetX, event.offsetY);
        fingers.delete(event.pointerId);
        canvas.classList.remove("dragged");
      });
    }
    canvas.addEventListener("pointerleave", () => hover());
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const turned = event.deltaY * (event.deltaMode === 1 ? 30 : 1);
      this.zoomBy(Math.exp(-Math.max(-200, Math.min(turned, 200)) / 400), event.offsetX, event.offsetY);
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] }[event.key];
      if (!by && event.key !== "Enter") return;
      event.preventDefault();
      if (by) this.panBy(...by);
      else chooseMiddle();
    });
  }
}

/** The part of a convex polygon where ``value`` isn't negative. */
function cutPolygon(polygon, value) {
  const kept = [];
  polygon.forEach((p, k) => {
    const q = polygon[(k + 1) % polygon.length], a = value(p), b = value(q);
    if (a >= 0) kept.push(p);
    if (a >= 0 !== b >= 0) kept.push(p.map((v, d) => lerp(v, q[d], a / (a - b))));
  });
  return kept;
}

/** The dot that is nearest to (x, y) among those that are meant, or null. */
function nearestDot(screen, x, y, isMeant, within = NEAR) {
  let best = null, least = within ** 2;
  for (let i = 0; i < screen.length / 2; i++) {
    if (!isMeant(i)) continue;
    const distance = (screen[2 * i] - x) ** 2 + (screen[2 * i + 1] - y) ** 2;
    if (distance < least) [best, least] = [i, distance]; // NaN is no less
  }
  return best;
}

/** The opacities (0 to 255) of a dot's or a ring's pixels, for each place within a pixel. */
function stampOf(radius, opacity, hole) {
  const key = `${radius} ${opacity} ${hole}`;
  if (!stamps.has(key)) {
    const size = Math.ceil(2 * radius) + 2, masks = [];
    for (let phase = 0; phase < PHASES ** 2; phase++) {
      const cx = size / 2 + (phase % PHASES) / PHASES, cy = size / 2 + Math.floor(phase / PHASES) / PHASES;
      masks.push(Uint8Array.from({ length: size ** 2 }, (_, k) => {
        const away = Math.hypot((k % size) + 0.5 - cx, Math.floor(k / size) + 0.5 - cy);
        return Math.round(255 * opacity * Math.min(Math.max(Math.min(radius - away, away - hole) + 0.5, 0), 1));
      }));
    }
    if (stamps.size > 20) stamps.clear();
    stamps.set(key, { size, masks });
  }
  return stamps.get(key);
}

/** Blend a stamp of a colour over the pixels around (x, y). */
function stampInto(pixels, { size, masks }, x, y, [red, green, blue]) {
  const across = pixels.width, data = pixels.data, left = x - size / 2, top = y - size / 2;
  const x0 = Math.floor(left), y0 = Math.floor(top);
  if (!(x0 >= 0 && y0 >= 0 && x0 + size <= across && y0 + size <= pixels.height)) return;
  const mask = masks[Math.floor((left - x0) * PHASES) + PHASES * Math.floor((top - y0) * PHASES)];
  for (let row = 0, k = 0; row < size; row++) {
    let at = 4 * ((y0 + row) * across + x0);
    for (let column = 0; column < size; column++, k++, at += 4) {
      const over = mask[k];
      if (!over) continue;
      const under = (data[at + 3] * (255 - over)) / 255, sum = over + under;
      data[at] = (red * over + data[at] * under) / sum;
      data[at + 1] = (green * over + data[at + 1] * under) / sum;
      data[at + 2] = (blue * over + data[at + 2] * under) / sum;
      data[at + 3] = sum;
    }
  }
}
