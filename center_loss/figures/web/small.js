// Small planes, one a run: the finished run's dots, and where it puts the drawing.

const SMALL_DOT = 0.9; // radius in CSS pixels

/**
 * Buttons with a plane each, into a box.
 *
 * @param box the element that gets them.
 * @param runs of runs.js.
 * @param choose called with a run's number.
 * @returns {draw(marks, chosen), repaint()}: marks by run, {path, rgb, text} or null, relative to the reach.
 */
function createSmallPlanes(box, runs, colours, choose) {
  const order = shuffledOrder(labels.length);
  box.style.setProperty("--count", runs.length);
  box.style.setProperty("--few", Math.min(runs.length, 3)); // in a row on a phone
  let drawn = null; // what was last asked for
  const all = runs.map((run, r) => {
    const button = document.createElement("button"), canvas = document.createElement("canvas");
    const name = document.createElement("span"), taken = document.createElement("b");
    name.textContent = run.name;
    button.type = "button";
    button.className = "small";
    button.append(canvas, name, taken);
    button.addEventListener("click", () => choose(r));
    box.append(button);
    const one = { run, button, taken, picture: null };
    one.plane = new Plane(canvas, colours, () => {
      one.picture = null; // it has another size
      if (drawn) draw(...drawn);
    });
    return one;
  });

  /** The plane without the drawing, drawn once. */
  function pictureOf({ run, plane }) {
    const places = new Float32Array(2 * labels.length), screen = new Float32Array(2 * labels.length);
    placesOf(run, Infinity, places);
    plane.clear();
    plane.project(places, screen);
    plane.drawRegions(run.end);
    plane.drawDots(screen, [{ which: order, radius: SMALL_DOT, opacity: 0.6, color: (i) => colours.rgb[labels[i]] }]);
    const picture = document.createElement("canvas");
    picture.width = plane.canvas.width;
    picture.height = plane.canvas.height;
    picture.getContext("2d").drawImage(plane.canvas, 0, 0);
    return picture;
  }

  function draw(marks, chosen) {
    drawn = [marks, chosen];
    for (const [r, one] of all.entries()) {
      one.button.setAttribute("aria-pressed", r === chosen);
      one.taken.textContent = marks[r]?.text ?? "";
      const { plane } = one;
      if (!plane.pixels) continue; // not shown yet
      one.picture ??= pictureOf(one);
      plane.clear();
      plane.paper.drawImage(one.picture, 0, 0, plane.width, plane.height);
      if (!marks[r]) continue;
      plane.drawPath(marks[r].path, colours.ink.front, 1.5);
      plane.drawMark(...marks[r].path.at(-1), marks[r].rgb, 5);
    }
  }

  for (const { plane } of all) plane.followSize();
  return {
    draw,
    repaint() {
      for (const one of all) one.picture = null;
    },
  };
}
