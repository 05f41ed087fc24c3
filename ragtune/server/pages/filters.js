// Filters: the values that documents have, as boxes to tick, and a field for any filter of the language.
import { getJson } from "./api.js";
import { byId, count, el } from "./dom.js";

const chosen = new Map(); // column -> Set of values
let free = "";
let columns = [];

const render = (value) => (typeof value === "string" ? `'${value.replace(/[\\']/g, "\\$&")}'` : String(value));

/** Return the filter in force as text, empty for none. */
export function where() {
  const parts = [...chosen].filter(([, values]) => values.size).map(([column, values]) => {
    const wanted = [...values].map(render);
    return wanted.length === 1 ? `${column} = ${wanted[0]}` : `${column} in (${wanted.join(", ")})`;
  });
  if (free) parts.push(parts.length ? `(${free})` : free);
  return parts.join(" and ");
}

/** Build the fields; `facets` are the server's: { column, label, values: [{ value, documents }] }. */
export function setUpFilters(facets, documents) {
  columns = facets;
  const panel = byId("filter");
  const says = el("p", { id: "filter-says", class: "faint", role: "status" });
  const field = el("input", { type: "text", id: "where", class: "code", spellcheck: "false", "aria-describedby": "filter-says",
    placeholder: facets.length ? `${facets[0].column} != ${render(facets[0].values[0]?.value ?? "")}` : "page <= 10" });
  field.value = free;
  field.onchange = () => {
    if (free === field.value.trim()) return;
    free = field.value.trim();
    check(field, says, documents);
  };
  field.onkeydown = (event) => { if (event.key === "Enter") { event.preventDefault(); field.onchange(); } };
  panel.replaceChildren(el("div", { class: "facets" }, facets.map(facet)),
    el("label", { for: "where" }, facets.length ? "Or as an expression, with and, or, not, in, =, !=, <, >" : "Expression, with and, or, not, in, =, !=, <, >"), field, says);
  says.textContent = where() ? "" : searched(documents);
  panel.refresh = () => check(field, says, documents);
  byId("filter-button").onclick = () => show(panel.hidden);
  chips();
}

export function show(isOpen) {
  byId("filter").hidden = !isOpen;
  byId("filter-button").setAttribute("aria-expanded", String(isOpen));
  if (isOpen) byId("filter").querySelector("input")?.focus();
}

function facet({ column, label, values }) {
  const boxes = values.map(({ value, documents }) => el("label", { class: "tick" },
    el("input", { type: "checkbox", value: String(value), "data-column": column, checked: chosen.get(column)?.has(value) || false, onchange: (event) => {
      if (!chosen.has(column)) chosen.set(column, new Set());
      chosen.get(column)[event.target.checked ? "add" : "delete"](value);
      byId("filter").refresh();
    } }), el("span", {}, String(value)), el("span", { class: "faint" }, String(documents))));
  const list = el("div", { class: values.some(({ value }) => String(value).length > 8) ? "ticks" : "ticks short" }, boxes);
  const find = values.length > 12 && el("input", { type: "search", "aria-label": `Find in ${label}`, placeholder: `Find in ${values.length}`, oninput: (event) => {
    const wanted = event.target.value.trim().toLowerCase();
    boxes.forEach((box, place) => { box.hidden = !String(values[place].value).toLowerCase().includes(wanted); });
  } });
  return el("fieldset", {}, el("legend", {}, label), find, list);
}

const searched = (documents) => (documents === 1 ? "No filter: the one document is searched." : `No filter: all ${documents.toLocaleString("en")} documents are searched.`);

/** Ask the server what the filter keeps, and show it or what is wrong with it. */
async function check(field, says, documents) {
  chips();
  const asked = where();
  const say = (text, kind = "faint") => {
    if (asked !== where()) return; // it has changed since: another answer is on its way
    says.className = kind;
    says.textContent = text;
    field.removeAttribute("aria-invalid");
    if (kind !== "faint" && free) field.setAttribute("aria-invalid", "true");
  };
  if (!asked) { say(searched(documents)); return; }
  try {
    const kept = await getJson(`v1/filter?${new URLSearchParams({ where: asked })}`);
    if (kept.problem) say(kept.problem, "error code");
    else say(`Keeps ${kept.documents} of ${count(documents, "document")}`);
  } catch (error) {
    say(error.message, "error");
  }
}

/** The filters in force, each with a cross. */
function chips() {
  const row = (text, drop) => el("li", {}, el("button", { type: "button", class: "chip", "aria-label": `Remove the filter ${text}`, onclick: () => {
    drop();
    setUpFilters(columns, Number(byId("about").dataset.documents));
    byId("filter").refresh();
    byId("question").focus();
  } }, text, el("span", { "aria-hidden": "true" }, " ×")));
  const all = [...chosen].flatMap(([column, values]) => [...values].map((value) => row(String(value), () => chosen.get(column).delete(value))));
  if (free) all.push(row(free, () => { free = ""; }));
  byId("chips").replaceChildren(...all);
  byId("filter-button").textContent = all.length ? `Filter · ${all.length}` : "Filter";
}
