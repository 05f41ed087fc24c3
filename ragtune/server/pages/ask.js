// The first view: a question, one answer or two side by side, newest first.
import { Answer } from "./answer.js";
import { announce, byId, count, el } from "./dom.js";
import { setUpFilters, show as showFilter, where } from "./filters.js";

let running = [];

/** Fill the view from what the server says of its assistant. */
export function setUpAsk(assistant) {
  byId("name").textContent = assistant.name;
  document.title = assistant.name;
  byId("purpose").textContent = assistant.description;
  byId("purpose").hidden = !assistant.description;
  byId("about").textContent = !assistant.documents ? "This key sees no documents yet." : [count(assistant.documents, "document"), ...assistant.facets.slice(0, 2).map(tellFacet)].join(" · ");
  byId("about").dataset.documents = assistant.documents;
  setUpFilters(assistant.facets, assistant.documents);
  const models = byId("model");
  const chosen = models.value;
  models.replaceChildren(...assistant.models.map((model) => el("option", { value: model.id }, model.label)));
  if (assistant.models.some((model) => model.id === chosen)) models.value = chosen;
  const pair = assistant.compare;
  byId("compare").parentNode.hidden = pair.length < 2;
  byId("pair").textContent = pair.map((model) => model.label).join(" beside ");
  byId("compare").onchange = () => {
    byId("pair").hidden = !byId("compare").checked;
    models.hidden = byId("compare").checked || models.options.length < 2;
  };
  byId("compare").onchange();
  byId("ask").onsubmit = (event) => { event.preventDefault(); running.length ? stop() : submit(assistant); };
  const field = byId("question");
  field.oninput = () => { field.style.height = "auto"; field.style.height = `${Math.min(field.scrollHeight, 240)}px`; };
  field.onkeydown = (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    if (!running.length) submit(assistant);
  };
  byId("examples").replaceChildren(...(assistant.examples.length && !byId("turns").firstChild ? [el("p", { class: "faint" }, "For example"), ...assistant.examples.map((text) =>
    el("button", { type: "button", class: "example", onclick: () => { field.value = text; field.oninput(); submit(assistant); } }, text))] : []));
}

function tellFacet({ label, values }) {
  const numbers = values.map(({ value }) => value);
  if (numbers.every((value) => typeof value === "number")) {
    const [first, last] = [Math.min(...numbers), Math.max(...numbers)];
    return `${label.toLowerCase()} ${first === last ? first : `${first}–${last}`}`;
  }
  return `${values.length.toLocaleString("en")} ${values.length === 1 ? label.toLowerCase() : plural(label.toLowerCase())}`;
}

const plural = (word) => (word.endsWith("y") ? `${word.slice(0, -1)}ies` : `${word}s`);

function stop() {
  running.forEach((answer) => answer.stop());
}

function submit(assistant) {
  const field = byId("question");
  const question = field.value.trim();
  if (!question) { field.focus(); return; }
  const isPair = byId("compare").checked && assistant.compare.length > 1;
  const filter = where();
  const answers = (isPair ? assistant.compare : [{ id: byId("model").value }]).map((model) =>
    new Answer({ question, model: model.id, where: filter }, isPair ? model.label : ""));
  const turn = el("section", { class: "turn", tabindex: "-1", "aria-label": question },
    el("h2", {}, question), filter && el("p", { class: "faint scope" }, filter),
    el("div", { class: isPair ? "answers pair" : "answers" }, answers.map((answer) => answer.node)));
  byId("examples").replaceChildren();
  byId("view-ask").classList.add("asked");
  byId("turns").prepend(turn);
  field.value = "";
  field.oninput();
  showFilter(false);
  turn.focus({ preventScroll: true });
  turn.scrollIntoView({ block: "nearest" });
  for (const answer of answers) {
    answer.begin = begin;
    answer.begin();
  }
}

/** Run an answer (`this`); while one runs, the button stops it. */
async function begin() {
  announce("Searching the documents");
  running.push(this);
  byId("send").textContent = "Stop";
  await this.run();
  running = running.filter((each) => each !== this);
  if (!running.length) byId("send").textContent = "Ask";
}
