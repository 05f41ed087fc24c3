// The documents: upload, open, delete; the job that takes them in is followed here.
import { getJson, request } from "./api.js";
import { announce, byId, count, el, failure } from "./dom.js";
import { follow, jobCard } from "./jobs.js";
import { openSource } from "./source.js";

const STATES = { indexed: "", waiting: "on its way", leaving: "leaving", unreadable: "not readable" };
const ENDED = ["done", "failed", "cancelled"];
const SERVED_WITHIN_MS = 20_000;
const TAKEN = "PDF, HTML, Markdown, text, DOCX, CSV, JSONL";
let wanted = "";
let isFollowing = false;

export async function showDocuments(assistant) {
  const view = byId("view-documents");
  const work = el("div", { id: "documents-work" }, view.querySelector("#documents-work > .card") || "");
  const table = el("div", {}, el("p", { class: "state" }, "Looking for documents"));
  const find = el("input", { type: "search", id: "find-document", "aria-label": "Find a document", placeholder: "Find a document", value: wanted, oninput: () => { wanted = find.value; render(); } });
  const says = el("p", { class: "faint", role: "status" });
  const wasFinding = document.activeElement?.id === "find-document";
  let documents = [];
  const render = () => {
    const word = wanted.trim().toLowerCase();
    const shown = documents.filter((each) => !word || [each.name, ...Object.values(each.metadata)].join(" ").toLowerCase().includes(word));
    const pages = shown.reduce((sum, each) => sum + each.pages, 0);
    says.textContent = documents.length ? `${count(shown.length, "document")}, ${count(pages, "page")}` : "";
    table.replaceChildren(shown.length ? list(shown, assistant) : el("p", { class: "empty" }, documents.length ? `No document has “${wanted.trim()}” in its name or its columns.`
      : assistant.is_admin ? "No document yet. Add one above: it can be asked as soon as it is in the index." : "This key sees no documents."));
  };
  view.replaceChildren(view.querySelector("h1"), assistant.is_admin ? dropZone(assistant) : "", work, el("div", { class: "bar" }, find, says), table);
  if (wasFinding) find.focus();
  try {
    documents = (await getJson("v1/documents?limit=10000")).data;
    render();
    if (assistant.is_admin && documents.some(isUnsettled)) await followWaiting(documents, assistant);
  } catch (error) {
    table.replaceChildren(failure(error));
  }
}

function dropZone(assistant) {
  const picker = el("input", { type: "file", multiple: true, hidden: true, id: "files", onchange: () => upload(picker.files, assistant) });
  const drop = el("div", { class: "drop" }, el("button", { type: "button", class: "main", onclick: () => picker.click() }, "Add documents"),
    el("span", {}, "or drop them here: ", TAKEN), picker);
  for (const name of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", name === "dragover");
      if (name === "drop") upload(event.dataTransfer.files, assistant);
    });
  }
  return drop;
}

function list(documents, assistant) {
  const columns = assistant.facets.filter(({ column }) => documents.some((each) => each.metadata[column] !== undefined)).slice(0, 2);
  const rows = documents.map((each) => el("tr", {},
    el("td", {}, each.chunks ? el("button", { type: "button", class: "name", title: "Open its first page", onclick: (event) => openSource([{ document: each.name, page: 1 }], 0, event.currentTarget) }, breakable(each.name)) : breakable(each.name),
      each.state !== "indexed" && el("span", { class: `badge ${each.state === "unreadable" ? "failed" : "running"}` }, STATES[each.state] || each.state),
      each.reason && el("div", { class: "faint" }, each.reason)),
    columns.map(({ column }) => el("td", { class: "hide-small" }, String(each.metadata[column] ?? ""))),
    el("td", { class: "number-cell" }, each.pages ? each.pages.toLocaleString("en") : ""),
    assistant.is_admin && el("td", { class: "acts-cell" }, each.state !== "leaving" && el("button", { type: "button", class: "delete", "aria-label": `Delete ${each.name}`, onclick: (event) => confirmDelete(event.currentTarget, each, assistant) }, "Delete"))));
  return el("div", { class: "sheet-table" }, el("table", {}, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Document"),
    columns.map(({ label }) => el("th", { scope: "col", class: "hide-small" }, label)), el("th", { scope: "col", class: "number-cell" }, "Pages"),
    assistant.is_admin && el("th", {}, el("span", { class: "unseen" }, "Delete")))), el("tbody", {}, rows)));
}

/** Return a name that may be broken after its underscores. */
const breakable = (name) => name.split(/(?<=_)/).flatMap((part, at) => (at ? [el("wbr"), part] : [part]));

/** The second press deletes; leaving the button takes the first one back. */
function confirmDelete(button, document, assistant) {
  if (button.dataset.sure) return run(() => request(`v1/documents/${encodeURIComponent(document.name)}`, { method: "DELETE" }), `${document.name} is leaving`, assistant);
  const calm = () => { delete button.dataset.sure; button.textContent = "Delete"; };
  button.dataset.sure = "yes";
  button.textContent = "Really?";
  announce(`Press again to delete ${document.name}`);
  button.onblur = calm;
  button.onkeydown = (event) => { if (event.key === "Escape") { event.preventDefault(); calm(); } };
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
  const hadFocus = byId("view-documents").contains(document.activeElement);
  try {
    const { job } = await (await change()).json();
    announce(said);
    work.replaceChildren();
    isFollowing = Boolean(job);
    await showDocuments(assistant);
    if (hadFocus && document.activeElement === document.body) byId("documents-title").focus({ preventScroll: true });
    if (job) await followJob(job, assistant);
  } catch (error) {
    byId("documents-work").replaceChildren(failure(error));
  }
}

/** Show the job that brings the index in line, to its end. */
async function followJob(job, assistant) {
  isFollowing = true;
  const card = jobCard(job);
  byId("documents-work").replaceChildren(card);
  const ended = await follow(job, card);
  if (ended?.state === "done") await untilServed();
  isFollowing = false;
  if (!ended) return;
  announce(ended.state === "done" ? "The documents are up to date" : `The job ${ended.state}`);
  if (ended.state === "done") {
    card.remove();
    dispatchEvent(new CustomEvent("assistant-changed"));
  }
  if (!byId("view-documents").hidden) await showDocuments(assistant);
}

const isUnsettled = (each) => ["waiting", "leaving"].includes(each.state);

/** Wait until the server answers from the index that a job made, which is a moment after the job is done. */
async function untilServed() {
  for (const until = Date.now() + SERVED_WITHIN_MS; Date.now() < until; await new Promise((go) => { setTimeout(go, 400); })) {
    const [{ data: documents }, { data: jobs }] = await Promise.all([getJson("v1/documents?limit=10000"), getJson("v1/jobs?kind=index&limit=20")]);
    if (!documents.some(isUnsettled) || jobs.some((each) => !ENDED.includes(each.state))) return;
  }
}

/** Documents wait: follow the job they wait for, or offer one. */
async function followWaiting(documents, assistant) {
  if (isFollowing) return;
  const { data } = await getJson("v1/jobs?kind=index&limit=20");
  const job = data.find((each) => !ENDED.includes(each.state));
  if (job) {
    followJob(job, assistant);
    return;
  }
  const waiting = documents.filter(isUnsettled).length;
  const start = el("button", { type: "button", class: "quiet", onclick: () =>
    run(async () => ({ json: async () => ({ job: await getJson("v1/jobs", { json: { kind: "index" } }) }) }), "The job waits for its turn", assistant) }, "Bring the index up to date");
  byId("documents-work").append(el("div", { class: "card row" }, el("span", {}, `${count(waiting, "document")} not in the index as ${waiting === 1 ? "it is" : "they are"}.`), start));
}
