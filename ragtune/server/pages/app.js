// The page: its views, its keys, its colours.
import { getJson, key, whenNoKey } from "./api.js";
import { setUpAsk } from "./ask.js";
import { byId, el, failure } from "./dom.js";
import { showDocuments } from "./documents.js";
import { show as showFilter } from "./filters.js";
import { leaveJobs, showJobs } from "./jobs.js";
import { showReports } from "./reports.js";
import { closeSource, isOpen, stepSource } from "./source.js";

const VIEWS = { ask: () => byId("question").focus(), documents: showDocuments, jobs: showJobs, reports: showReports };
let assistant = null;

function turnTo(name) {
  for (const view of Object.keys(VIEWS)) byId(`view-${view}`).hidden = view !== name;
  for (const link of document.querySelectorAll("nav a")) {
    link.hash === `#${name}` ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  }
  closeSource();
  if (name !== "jobs") leaveJobs();
  if (assistant) VIEWS[name](assistant);
}

const viewNamed = () => (location.hash.slice(1) in VIEWS ? location.hash.slice(1) : "ask");

/** Ask the server anew what there is: documents, models, filters. Returns whether it said so. */
async function refresh() {
  try {
    assistant = await getJson("v1/assistant");
  } catch (error) {
    if (error.status === 401) {
      byId("about").replaceChildren("This server wants an API key. ", el("button", { type: "button", class: "link", onclick: askForKey }, "Enter it"));
    } else if (!assistant) {
      byId("about").replaceChildren(failure(error), el("button", { type: "button", class: "quiet", onclick: start }, "Try again"));
    }
    return false;
  }
  byId("key-button").hidden = !key.get();
  document.querySelector("nav a[href='#jobs']").hidden = !assistant.is_admin;
  setUpAsk(assistant);
  return true;
}

async function start() {
  if (await refresh()) turnTo(viewNamed());
}

// The key, where the server wants one.
function askForKey() {
  byId("key-forget").hidden = !key.get();
  if (!byId("key-dialog").open) byId("key-dialog").showModal();
}
whenNoKey((message) => {
  const why = byId("key-why");
  why.className = key.get() ? "error" : "faint";
  if (key.get()) why.textContent = "The key does not hold. Was it copied as a whole? It may also have ended: ask whoever runs this server.";
  else if (!message.startsWith("no API key")) why.textContent = message;
  byId("key-button").hidden = false;
  askForKey();
});
byId("key-button").onclick = askForKey;
byId("key-forget").onclick = () => { key.set(""); byId("key").value = ""; byId("key-dialog").close("forgot"); };
byId("key-dialog").onclose = () => {
  const dialog = byId("key-dialog");
  if (dialog.returnValue === "save") key.set(byId("key").value.trim());
  if (["save", "forgot"].includes(dialog.returnValue)) start();
  byId("key").value = "";
  dialog.returnValue = "";
};

// Dark or light: as the system has it until it is set here.
const isDark = () => (document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
const kept = localStorage.getItem("ragtune-theme");
if (kept) document.documentElement.dataset.theme = kept;
byId("theme").onclick = () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  localStorage.setItem("ragtune-theme", document.documentElement.dataset.theme);
};

const isTyping = (node) => node.matches("textarea, select, input:not([type=checkbox])");

function stepCitation(step, from) {
  const all = [...(from.closest(".answer") || from.closest(".turn") || byId("turns").firstChild || document).querySelectorAll(".answer .source")];
  const place = all.indexOf(from.closest(".source, .cite")?.matches(".source") ? from : null);
  const next = all[place < 0 ? (step > 0 ? 0 : all.length - 1) : place + step];
  next?.focus();
  return Boolean(next);
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  const from = event.target;
  if (event.key === "Escape" && !byId("key-dialog").open) {
    if (!byId("filter").hidden && byId("ask").contains(from)) { showFilter(false); byId("filter-button").focus(); } else closeSource();
    return;
  }
  if (event.key === "/" && from === byId("question") && !from.value) { event.preventDefault(); return; } // it is there already
  if (isTyping(from) || byId("key-dialog").open) return;
  if (event.key === "/") {
    event.preventDefault();
    if (viewNamed() !== "ask") location.hash = "#ask";
    byId("question").focus();
  } else if (event.key === "ArrowRight" || event.key === "ArrowLeft") {
    const step = event.key === "ArrowRight" ? 1 : -1;
    const inPanel = isOpen() && byId("source").contains(from);
    if (viewNamed() === "ask" && (inPanel ? stepSource(step) : stepCitation(step, from))) event.preventDefault();
  } else if (/^[1-9]$/.test(event.key) && viewNamed() === "ask") {
    const turn = from.closest(".turn") || byId("turns").firstChild;
    turn?.querySelector(`.source:has(.number)`) && [...turn.querySelectorAll(".source")].find((each) => each.querySelector(".number").textContent === event.key)?.click();
  }
});

addEventListener("hashchange", () => {
  if (location.hash === "#question") return;
  turnTo(viewNamed());
  if (!assistant) start();
  else if (viewNamed() === "ask") refresh();
});
byId("ask").onsubmit = (event) => { event.preventDefault(); start(); }; // until it is known what can be asked
addEventListener("assistant-changed", () => refresh());
start();
