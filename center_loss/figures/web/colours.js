// Colours: the digits' palettes and the page's own, in the light and in the dark.

/** The red, green and blue of "#rrggbb". */
const rgbOf = (color) => [1, 3, 5].map((k) => parseInt(color.slice(k, k + 2), 16));

/**
 * The colours of now, kept up to date when the system goes dark or light.
 *
 * @param palettes {light, dark}: each of ten "#rrggbb".
 * @param changed called after each change, and not before this has returned.
 * @returns {digits, rgb, ink}: "#rrggbb" and [red, green, blue] by digit; ink has front, back, muted,
 *   grid and accent as in the style sheet, ring (front as numbers) and regionAlpha.
 */
function watchColours(palettes, changed) {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const colours = { digits: [], rgb: [], ink: {} };
  const read = () => {
    colours.digits = palettes[dark.matches ? "dark" : "light"];
    colours.rgb = colours.digits.map(rgbOf);
    const style = getComputedStyle(document.documentElement);
    for (const name of ["front", "back", "muted", "grid", "accent"]) {
      colours.ink[name] = style.getPropertyValue(`--${name}`).trim();
    }
    colours.ink.ring = rgbOf(colours.ink.front);
    colours.ink.regionAlpha = dark.matches ? 0.22 : 0.13;
  };
  read();
  dark.addEventListener("change", () => {
    read();
    changed();
  });
  return colours;
}
