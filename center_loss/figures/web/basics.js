// What every page uses.

const DIGITS = 10;
const $ = (id) => document.getElementById(id);
const lerp = (a, b, t) => a + (b - a) * t;
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const int16 = (text) => new Int16Array(bytes(text).buffer);
const uint16 = (text) => new Uint16Array(bytes(text).buffer);
const threeDigits = (v) => v.toLocaleString("en", { minimumSignificantDigits: 3, maximumSignificantDigits: 3 });
const calm = matchMedia("(prefers-reduced-motion: reduce)");

/** The numbers 0 … count − 1 in a random order that is the same each time: no digit hides another. */
function shuffledOrder(count) {
  const order = Uint16Array.from({ length: count }, (_, i) => i);
  let seed = 1;
  for (let i = count - 1; i > 0; i--) {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    const j = Math.floor((seed / 2 ** 32) * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

/** The legend: a button for each digit, which calls ``choose`` with it. */
function addDigitButtons(choose) {
  for (let digit = 0; digit < DIGITS; digit++) {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-pressed", false);
    button.append(document.createElement("i"), String(digit));
    button.addEventListener("click", () => choose(digit));
    $("digits").append(button);
  }
}
