// Building the page out of text: nothing that comes from a document or a model is ever read as HTML.

const PROPERTIES = new Set(["value", "checked", "disabled", "hidden", "src", "type", "open", "multiple", "max"]);

/** Return an element. Attributes `on...` are listeners; null and false leave an attribute out; children are nodes or texts. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "class") node.className = value;
    else if (PROPERTIES.has(name)) node[name] = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export const byId = (id) => document.getElementById(id);

const ICONS = {
  up: "M7 11v9H4v-9zM7 11l4-8c1.500 0 2.500 1 2.500 2.500V9H19a1.800 1.800 0 0 1 1.800 2.200l-1.500 7.200A2 2 0 0 1 17.300 20H7",
  down: "M17 13V4h3v9zM17 13l-4 8c-1.500 0-2.500-1-2.500-2.500V15H5a1.800 1.800 0 0 1-1.800-2.200l1.500-7.200A2 2 0 0 1 6.700 4H17",
  copy: "M9 9h11v11H9zM15 9V4H4v11h5",
  close: "M6 6l12 12M18 6L6 18",
  left: "M15 5l-7 7 7 7",
  right: "M9 5l7 7-7 7",
};

/** Return one of the drawn signs. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** Say something to those who listen to the page. */
export function announce(text) {
  byId("status").textContent = text;
}

/** Return 1 document, 2 documents. */
export function count(number, thing) {
  return `${number.toLocaleString("en")} ${thing}${number === 1 ? "" : "s"}`;
}

/** Return the paragraph that says what went wrong. */
export function failure(error) {
  return el("p", { class: "error", role: "alert" }, error.message || String(error));
}
