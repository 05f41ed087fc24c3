// The documents: upload, what each is, delete; the job that takes them in is followed here.
import { getJson, request } from "./api.js";
import { announce, byId, count, el, failure } from "./dom.js";
import { follow, jobCard } from "./jobs.js";

const STATES = { indexed: "", waiting: "on its way", leaving: "leaving", unreadable: "not readable" };
let wanted = "";

export async function showDocuments(assistant) {
  const view = byId("view-documents");
  const work = el("div", { id: "documents-work" });
  const table = el("div", {});
  const picker = el("input", { type: "file", multiple: true, hidden: true, id: "files", onchange: () => upload(picker.files, assistant) });
  const drop = el("div", { class: "drop" }, el("button", { type: "button", class: "main", onclick: () => picker.click() }, "Add documents"),
    el("span", {}, " or drop them here: PDF, HTML, Markdown, text, DOCX, CSV, JSONL"), picker);
  for (const name of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", name === "dragover");
      if (name === "drop") upload(event.dataTransfer.files, assistant);
    });
  }
  const find = el("input", { type: "search", "aria-label": "Find a document", placeholder: "Find a document", value: wanted, oninput: () => { wanted = find.value; render(); } });
  let documents = [];
  const render = () => {
    const word = wanted.trim().toLowerCase();
    const shown = documents.filter((each) => !word || [each.name, ...Object.values(each.metadata)].join(" ").toLowerCase().includes(word));
    table.replaceChildren(shown.length ? list(shown, assistant) : el("p", { class: "empty" }, documents.length ? "No document fits." : "No document yet."));
  };
  view.replaceChildren(view.querySelector("h1"), assistant.is_admin ? drop : "", work, el("div", { class: "bar" }, find), table);
  try {
    documents = (await getJson("v1/documents?limit=10000")).data;
    render();
  } catch (error) {
    table.replaceChildren(failure(error));
  }
}

function list(documents, assistant) {
  const columns = assistant.facets.filter(({ column }) => documents.some((each) => each.metadata[column] !== undefined)).slice(0, 2);
  const rows = documents.map((each) => el("tr", {},
    el("td", {}, each.name, each.state !== "indexed" && el("div", {}, el("span", { class: `badge ${each.state === "unreadable" ? "failed" : "running"}` }, STATES[each.state] || each.state)),
      each.reason && el("div", { class: "faint" }, each.reason)),
    columns.map(({ column }) => el("td", { class: "hide-small" }, String(each.metadata[column] ?? ""))),
    el("td", { class: "number-cell" }, each.pages ? String(each.pages) : ""),
    assistant.is_admin && el("td", { class: "acts-cell" }, each.state !== "leaving" && el("button", { type: "button", class: "link", "aria-label": `Delete ${each.name}`, onclick: (event) => confirmDelete(event.currentTarget, each, assistant) }, "Delete"))));
  return el("div", { class: "sheet-table" }, el("table", {}, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Document"),
    columns.map(({ label }) => el("th", { scope: "col", class: "hide-small" }, label)), el("th", { scope: "col", class: "number-cell" }, "Pages"),
    assistant.is_admin && el("th", {}, el("span", { class: "unseen" }, "Delete")))), el("tbody", {}, rows)));
}

/** The second press deletes. */
function confirmDelete(button, document, assistant) {
  if (button.dataset.sure) return run(() => request(`v1/documents/${encodeURIComponent(document.name)}`, { method: "DELETE" }), `${document.name} is leaving`, assistant);
  button.dataset.sure = "yes";
  button.textContent = "Really delete?";
  button.onblur = () => { delete button.dataset.sure; button.textContent = "Delete"; };
  return null;
}

function upload(files, assistant) {
  if (!files.length) return null;
  const body = new FormData();
  for (const file of files) body.append("files", file);
  return run(() => request("v1/documents", { method: "POST", body }), `${count(files.length, "file")} taken in`, assistant);
}

async function run(change, said, assistant) {
  const work = byId("documents-work");
  work.replaceChildren(el("p", { class: "state" }, el("span", { class: "dots", "aria-hidden": "true" }), "Sending"));
  try {
    const { job } = await (await change()).json();
    announce(said);
    await showDocuments(assistant);
    if (!job) return;
    const card = jobCard(job);
    byId("documents-work").replaceChildren(card);
    const ended = await follow(job, card);
    if (ended && !byId("view-documents").hidden) {
      await showDocuments(assistant);
      if (ended.state !== "done") byId("documents-work").replaceChildren(jobCard(ended));
      announce(ended.state === "done" ? "The documents are up to date" : `The job ${ended.state}`);
    }
    if (ended?.state === "done") dispatchEvent(new CustomEvent("documents-changed"));
  } catch (error) {
    byId("documents-work").replaceChildren(failure(error));
  }
}
