// Keys that work wherever the focus is.

/**
 * Call an action by its key.
 *
 * @param actions functions by ``event.key``, letters in lower case.
 */
function listenToKeys(actions) {
  document.addEventListener("keydown", (event) => {
    const ownSpace = event.key === " " && event.target.matches("button, input[type=checkbox], select, summary");
    const own = ["Home", "End"].includes(event.key) && event.target.matches("input[type=range]");
    const typing = event.target.matches("input[type=number], input[type=text], select") && event.key !== "Escape";
    const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    // on some keyboards [ and ] are typed with AltGr, which looks like Ctrl and Alt
    const shortcut = (event.ctrlKey || event.metaKey || event.altKey) && !event.getModifierState("AltGraph");
    if (event.defaultPrevented || shortcut || ownSpace || own || typing || !action) return;
    event.preventDefault();
    action();
  });
  // What was clicked doesn't keep the focus, so that Space plays; what was reached with Tab does.
  document.addEventListener("click", (event) => {
    if (event.detail && event.target.closest("button, label, input:not([type=number], [type=text])")) document.activeElement.blur();
  });
}

/** The direction of an arrow key, +1 for right or down and −1 for left or up, else undefined. */
const arrow = (event) => ({ ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 })[event.key];
