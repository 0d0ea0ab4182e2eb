// Work beside the page, so that drawing never waits for it.

/**
 * Start a worker made of functions of this page, which needs no file beside the page.
 *
 * @param functions declared ones, which use nothing but each other; the last is called there, without
 *   arguments, and sets ``onmessage``.
 * @param answer called with what the worker posts.
 * @returns the worker; its ``postMessage`` goes there.
 * @throws where a page may have no worker, as in a frame without an origin.
 */
function startWorker(functions, answer) {
  return startWorkerFrom(`${functions.join("\n")}\n${functions.at(-1).name}();`, answer);
}

/** The same, of a program's text, which sets ``onmessage``. */
function startWorkerFrom(text, answer) {
  const address = URL.createObjectURL(new Blob(['"use strict";\n', text], { type: "text/javascript" }));
  const worker = new Worker(address);
  worker.onmessage = (event) => answer(event.data);
  return worker;
}
