// A pad to draw on with mouse, finger, pen or keys. What is drawn are strokes, of points from 0 to 1.

const RASTER = 280; // pixels of the image of the ink, each way
const PEN = 0.08; // the pen's width: a digit that fills most of the pad gets MNIST's strokes
const KEY_STEP = 1 / 40; // how far an arrow key moves the pen

/**
 * Make a canvas a pad.
 *
 * @param canvas its element; its size is the style sheet's.
 * @param colours of ``watchColours``.
 * @param changed called after each change of the ink.
 * @returns {undo, clear, isEmpty, isDown, ink, paint}: ink() is RASTER² levels, 0 to 255.
 */
function createPad(canvas, colours, changed) {
  const paper = canvas.getContext("2d");
  const raster = document.createElement("canvas");
  raster.width = raster.height = RASTER;
  const rasterPaper = raster.getContext("2d", { willReadFrequently: true });
  let strokes = []; // each an array of [x, y]
  const before = []; // what undo brings back: earlier strokes
  let pointer = null; // the one that draws
  const keyPen = { x: 0.5, y: 0.5, isDown: false, isSeen: false };

  function drawStrokes(on, size, color) {
    on.strokeStyle = on.fillStyle = color;
    on.lineWidth = PEN * size;
    on.lineCap = on.lineJoin = "round";
    for (const stroke of strokes) {
      on.beginPath();
      stroke.forEach(([x, y]) => on.lineTo(x * size, y * size));
      on.stroke();
      const [x, y] = stroke[0]; // where it went nowhere it is a dot
      on.beginPath();
      on.arc(x * size, y * size, (PEN * size) / 2, 0, 2 * Math.PI);
      on.fill();
    }
  }

  function paint() {
    const size = canvas.clientWidth, ratio = Math.min(devicePixelRatio || 1, 2);
    if (!size) return; // not shown
    const pixels = Math.round(size * ratio);
    if (canvas.width !== pixels || canvas.height !== pixels) canvas.width = canvas.height = pixels;
    paper.setTransform(ratio, 0, 0, ratio, 0, 0);
    paper.clearRect(0, 0, size, size);
    drawStrokes(paper, size, colours.ink.front);
    if (keyPen.isSeen) {
      paper.lineWidth = 2;
      paper.strokeStyle = colours.ink.accent;
      paper.beginPath();
      paper.arc(keyPen.x * size, keyPen.y * size, (PEN * size) / 2 + 2, 0, 2 * Math.PI);
      paper.stroke();
      if (!keyPen.isDown) return;
      paper.globalAlpha = 0.4;
      paper.fillStyle = colours.ink.accent;
      paper.fill();
      paper.globalAlpha = 1;
    }
  }

  function ink() {
    rasterPaper.clearRect(0, 0, RASTER, RASTER);
    drawStrokes(rasterPaper, RASTER, "#ffffff");
    const { data } = rasterPaper.getImageData(0, 0, RASTER, RASTER);
    const levels = new Uint8Array(RASTER ** 2);
    for (let at = 0; at < levels.length; at++) levels[at] = data[4 * at + 3]; // its opacity
    return levels;
  }

  function update() {
    paint();
    changed();
  }

  function begin(x, y) {
    before.push(strokes);
    strokes = [...strokes, [[x, y]]];
  }

  function lift() {
    pointer = null;
    keyPen.isDown = false;
  }

  function undo() {
    if (!before.length) return;
    lift();
    strokes = before.pop();
    update();
  }

  function clear() {
    if (!strokes.length) return;
    lift();
    before.push(strokes);
    strokes = [];
    update();
  }

  const within = (v) => Math.min(Math.max(v, 0), 1);
  const placeOf = (event) => {
    const box = canvas.getBoundingClientRect();
    return [within((event.clientX - box.x) / box.width), within((event.clientY - box.y) / box.height)];
  };
  canvas.addEventListener("mousedown", (event) => event.preventDefault()); // keys draw where Tab led
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || event.ctrlKey || pointer !== null) return; // a menu, or the palm of a hand
    event.preventDefault();
    canvas.setPointerCapture(event.pointerId);
    pointer = event.pointerId;
    keyPen.isSeen = keyPen.isDown = false;
    begin(...placeOf(event));
    update();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (event.pointerId !== pointer) return;
    const between = event.getCoalescedEvents?.() ?? [];
    for (const each of between.length ? between : [event]) strokes.at(-1).push(placeOf(each));
    update();
  });
  for (const kind of ["pointerup", "pointercancel", "lostpointercapture"]) {
    canvas.addEventListener(kind, (event) => {
      if (event.pointerId !== pointer) return;
      lift();
      changed();
    });
  }
  canvas.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if ((!by && event.key !== " ") || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keyPen.isSeen = true;
    if (by) {
      keyPen.x = within(keyPen.x + by[0] * KEY_STEP);
      keyPen.y = within(keyPen.y + by[1] * KEY_STEP);
    } else {
      keyPen.isDown = !keyPen.isDown;
      if (keyPen.isDown) begin(keyPen.x, keyPen.y);
    }
    if (keyPen.isDown && by) strokes.at(-1).push([keyPen.x, keyPen.y]);
    update();
  });
  canvas.addEventListener("blur", () => {
    lift();
    keyPen.isSeen = false;
    paint();
  });
  new ResizeObserver(paint).observe(canvas);
  return {
    undo, clear, ink, paint,
    isEmpty: () => !strokes.length,
    canUndo: () => before.length > 0,
    isDown: () => pointer !== null || keyPen.isDown,
  };
}
