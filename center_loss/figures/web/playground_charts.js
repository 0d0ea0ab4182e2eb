// Small charts of numbers over the steps of the training.

const POINTS = 400; // at most; then every second one is left out

/** What was measured, step by step: {steps, …} in one array. */
class History {
  constructor() {
    this.points = [];
    this.every = 1; // states in a point
    this.waiting = 0;
  }

  add(point) {
    const last = this.points.at(-1);
    if (last && last.steps === point.steps) this.points.pop(); // the same moment, seen anew
    else if (++this.waiting < this.every && this.points.length > 1) this.points.pop(); // the last point is always now
    else this.waiting = 0;
    this.points.push(point);
    if (this.points.length > POINTS) {
      this.points = this.points.filter((_, k) => k % 2 === 0 || k === this.points.length - 1);
      this.every *= 2;
    }
  }
}

/**
 * Draw lines over the steps.
 *
 * @param canvas its size is the style sheet's.
 * @param points of a History.
 * @param series [{key: of a point, color}].
 * @param log whether the height is by factors; then what isn't positive is left out.
 * @param ink of ``watchColours``.
 */
function drawChart(canvas, points, series, log, ink) {
  const ratio = Math.min(devicePixelRatio || 1, 2), width = canvas.clientWidth, height = canvas.clientHeight;
  if (!width || !height) return;
  if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
  if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
  const paper = canvas.getContext("2d");
  paper.setTransform(ratio, 0, 0, ratio, 0, 0);
  paper.clearRect(0, 0, width, height);
  const of = log ? (v) => (v > 0 ? Math.log10(v) : NaN) : (v) => (v === null ? NaN : v);
  const values = points.flatMap((point) => series.map(({ key }) => of(point[key]))).filter(Number.isFinite);
  let low = log ? Math.min(...values) : 0, high = log ? Math.max(...values) : 1;
  if (!values.length) return;
  if (log) [low, high] = [Math.floor(low), Math.max(Math.ceil(high), Math.floor(low) + 1)];
  const left = 38, right = width - 4, top = 5, bottom = height - 5;
  const last = Math.max(points.at(-1)?.steps ?? 0, 1);
  const toX = (step) => left + ((right - left) * step) / last;
  const toY = (v) => bottom - ((bottom - top) * (v - low)) / (high - low);
  paper.font = `11px ${getComputedStyle(document.body).fontFamily}`;
  paper.textAlign = "right";
  paper.textBaseline = "middle";
  paper.lineWidth = 1;
  const gap = log ? Math.ceil((high - low) / 3) : 0.5;
  for (let v = low; v <= high + 1e-9; v += gap) {
    paper.strokeStyle = ink.grid;
    paper.beginPath();
    paper.moveTo(left, Math.round(toY(v)) + 0.5);
    paper.lineTo(right, Math.round(toY(v)) + 0.5);
    paper.stroke();
    paper.fillStyle = ink.muted;
    paper.fillText(log ? Number((10 ** v).toPrecision(1)).toString() : `${100 * v}%`, left - 5, Math.min(Math.max(toY(v), 7), height - 7));
  }
  paper.lineJoin = "round";
  for (const { key, color } of series) {
    paper.strokeStyle = color;
    paper.lineWidth = 1.8;
    paper.beginPath();
    let drawing = false;
    for (const [k, point] of points.entries()) {
      const v = of(point[key]);
      // what is measured now and then doesn't stand still in between
      const repeated = k > 0 && k < points.length - 1 && point[key] === points[k - 1][key];
      if (!Number.isFinite(v) || repeated) continue;
      if (drawing) paper.lineTo(toX(point.steps), toY(v));
      else paper.moveTo(toX(point.steps), toY(v));
      drawing = true;
    }
    paper.stroke();
  }
}
