// A page's words, in the reader's language. They all lie in one table, {key: {en, zh}}.
//
// In the HTML, data-word names the key of an element's text, data-label that of its aria-label and
// data-title that of its tooltip.

const LANGUAGES = { en: "English", zh: "中文" };

/**
 * The words in the language that was last chosen here, or that comes first among the browser's.
 *
 * @param table {key: {en, zh}}; {name} in a text stands for a value.
 * @param button switches to the other language, and has its name.
 * @param changed called when another language was chosen, and not before this has returned.
 * @returns say(key, {name: value, …}) → the text; and language, "en" or "zh".
 */
function speak(table, button, changed) {
  let remembered = null;
  try {
    remembered = localStorage.getItem("center-loss-language");
  } catch { /* a page without an origin has no memory */ }
  const wanted = [remembered, ...navigator.languages.map((each) => each.slice(0, 2).toLowerCase())];
  const words = { language: wanted.find((each) => each in LANGUAGES) ?? "en", say };

  function say(key, values = {}) {
    return table[key][words.language].replace(/\{(\w+)\}/g, (_, name) => values[name]);
  }

  function show() {
    document.documentElement.lang = words.language === "zh" ? "zh-CN" : "en";
    for (const each of document.querySelectorAll("[data-word]")) each.textContent = say(each.dataset.word);
    for (const each of document.querySelectorAll("[data-label]")) each.setAttribute("aria-label", say(each.dataset.label));
    for (const each of document.querySelectorAll("[data-title]")) each.title = say(each.dataset.title);
    const other = words.language === "zh" ? "en" : "zh";
    button.textContent = LANGUAGES[other];
    button.lang = other === "zh" ? "zh-CN" : "en";
  }

  button.addEventListener("click", () => {
    words.language = words.language === "zh" ? "en" : "zh";
    try {
      localStorage.setItem("center-loss-language", words.language);
    } catch { /* see above */ }
    show();
    changed();
  });
  show();
  return words;
}
