// Jobs: what runs, how far it is, what it said; new ones are started here.
import { events, getJson, request } from "./api.js";
import { announce, byId, count, el, failure } from "./dom.js";

const NAMES = { index: "Bring the index up to date", dataset: "Make a dataset", train: "Tune the model", evaluate: "Evaluate" };
const ABOUT = {
  index: "Read the documents that are new or changed; the others are not read again.",
  dataset: "Turn the questions whose answers are known into rows to learn from and rows to test with.",
  train: "Train an adapter on the dataset; it is served beside the base model as soon as it is done.",
  evaluate: "Ask base and tuned the test questions, with and without the documents, and write a report.",
};
const SAID = { queued: "waiting", running: "running", done: "done", failed: "failed", cancelled: "cancelled", interrupted: "goes on soon" };
const ENDED = ["done", "failed", "cancelled"];
const LOG_EACH_MS = 1500;
let watching = new AbortController();

export function leaveJobs() {
  watching.abort();
}

export async function showJobs(assistant) {
  const view = byId("view-jobs");
  const list = el("div", { class: "list" }, el("p", { class: "state" }, "Looking for jobs"));
  const start = el("div", { class: "starts" });
  view.replaceChildren(view.querySelector("h1"), start, list);
  watching.abort();
  watching = new AbortController();
  if (!assistant.is_admin) {
    list.replaceChildren(el("p", { class: "empty" }, "Jobs are for keys of administrators: ragtune keys add NAME --admin"));
    return;
  }
  try {
    const [{ data: jobs }, { data: kinds }] = await Promise.all([getJson("v1/jobs?limit=50"), getJson("v1/jobs/kinds")]);
    start.replaceChildren(...kinds.map(({ kind, description }) => el("button", { type: "button", class: "start", onclick: () => begin(kind, list) },
      el("span", { class: "title" }, NAMES[kind] || kind), el("span", { class: "faint" }, ABOUT[kind] || description))));
    list.replaceChildren(...(jobs.length ? jobs.map((job) => followed(job, watching.signal)) : [
      el("p", { class: "empty" }, "No job yet. Start one above: it runs in a process of its own, and its progress is shown here.")]));
  } catch (error) {
    list.replaceChildren(failure(error));
  }
}

async function begin(kind, list) {
  list.querySelector(":scope > .error")?.remove();
  try {
    const job = await getJson("v1/jobs", { json: { kind } });
    announce(`${NAMES[kind] || kind}: waiting`);
    list.querySelector(".empty")?.remove();
    list.prepend(followed(job, watching.signal));
  } catch (error) {
    list.prepend(failure(error));
  }
}

/** Return the card of a job that is followed to its end. */
function followed(job, signal) {
  const card = jobCard(job);
  const isOpen = !ENDED.includes(job.state);
  follow(job, card, signal).then((ended) => {
    if (!isOpen || !ended) return;
    announce(`${NAMES[ended.kind] || ended.kind}: ${SAID[ended.state]}`);
    if (ended.state === "done") dispatchEvent(new CustomEvent("assistant-changed"));
  });
  return card;
}

/** Return what shows a job; `follow` keeps it up to date. */
export function jobCard(job) {
  const card = el("article", { class: "card", "aria-label": NAMES[job.kind] || job.kind }, el("div", { class: "facts" }), logOf(job));
  update(card, job);
  return card;
}

/** Follow a job to its end, keeping its card up to date; return it as it ended, or null where it is no longer watched. */
export async function follow(job, card, signal) {
  if (ENDED.includes(job.state)) return job;
  try {
    for await (const { data } of events(`v1/jobs/${job.id}/events`, { signal })) {
      if (data.error) throw new Error(data.error.message);
      update(card, data);
      if (ENDED.includes(data.state)) return data;
    }
  } catch (error) {
    if (error.name !== "AbortError") complain(card, error);
  }
  return null;
}

function complain(card, error) {
  card.querySelector(":scope > .error.now")?.remove();
  const said = failure(error);
  said.classList.add("now");
  card.append(said);
}

function update(card, job) {
  const isOpen = !ENDED.includes(job.state);
  const focused = card.contains(document.activeElement) && document.activeElement;
  const [facts, log] = card.children; // the log stays where it is, and as far scrolled as it is
  const when = new Date(1000 * (job.ended || job.started || job.created)).toLocaleString("en", { dateStyle: "medium", timeStyle: "short" });
  const far = job.total ? `${job.done.toLocaleString("en")} of ${job.total.toLocaleString("en")}` : "";
  const took = job.ended && job.started ? ` · took ${duration(job.ended - job.started)}` : "";
  const bar = el("progress", { max: job.total || 1, "aria-label": job.task || "Progress" });
  if (job.total) bar.value = job.done;
  const stop = el("button", { type: "button", class: "quiet stop", disabled: job.is_cancelling, onclick: async () => {
    try { update(card, await getJson(`v1/jobs/${job.id}`, { method: "DELETE" })); } catch (error) { complain(card, error); }
  } }, job.is_cancelling ? "Stopping" : "Cancel");
  const waits = job.state === "interrupted" ? "The server stopped meanwhile; the job goes on when its turn comes" : "Waiting for its turn: one job runs at a time";
  facts.replaceChildren(
    el("div", { class: "row" }, el("span", { class: "title" }, NAMES[job.kind] || job.kind), el("span", { class: `badge ${job.state}` }, SAID[job.state] || job.state)),
    job.state === "running" ? bar : "",
    el("div", { class: "row" }, el("span", { class: "faint" }, isOpen ? [sentence(job.task), far].filter(Boolean).join(" · ") || (job.state === "running" ? "Starting" : waits) : `${when}${took}`), isOpen ? stop : ""),
    job.error ? el("p", { class: "error" }, job.error) : "", job.state === "done" ? outcome(job) : "");
  log.renew(isOpen);
  if (focused && !focused.isConnected) (focused.matches(".stop") && facts.querySelector(".stop:enabled") || log.querySelector("summary")).focus();
}

const sentence = (text) => (text ? text[0].toUpperCase() + text.slice(1) : "");

function duration(seconds) {
  const whole = Math.max(1, Math.round(seconds));
  return whole < 120 ? `${whole} s` : `${Math.round(whole / 60)} min`;
}

/** What came of it in a line, and what to do with that. */
function outcome({ kind, result }) {
  const to = (hash, text) => el("a", { href: hash }, text);
  const line = (said, link) => el("p", { class: "outcome" }, said, said && " · ", link);
  if (kind === "index" && result.documents !== undefined) return line(`${count(result.documents, "document")} in the index`, to("#ask", "Ask them"));
  if (kind === "dataset" && result.train_questions !== undefined) return line(`${count(result.train_questions, "question")} to learn from, ${result.test_questions.toLocaleString("en")} to test with`, "next: tune the model");
  if (kind === "train" && result.steps !== undefined) return line(`${count(result.steps, "step")}${result.loss_first && result.loss_last ? `, loss ${result.loss_first.toFixed(2)} → ${result.loss_last.toFixed(2)}` : ""}`, to("#ask", "Ask the tuned model"));
  if (kind === "evaluate") return line("", to("#reports", "See the report"));
  return "";
}

/** The log, read when it is opened and, while the job runs, anew from time to time. */
function logOf(job) {
  const text = el("pre", { class: "log", tabindex: "0", "aria-label": "Log" });
  let read = 0;
  const load = async () => {
    read = Date.now();
    const isAtEnd = text.scrollTop + text.clientHeight >= text.scrollHeight - 8;
    try {
      text.textContent = (await (await request(`v1/jobs/${job.id}/log`)).text()) || "Nothing was said yet.";
    } catch (error) {
      text.textContent = error.message;
    }
    if (isAtEnd) text.scrollTop = text.scrollHeight;
  };
  const details = el("details", { class: "more", ontoggle: () => { if (details.open) load(); } }, el("summary", {}, "Log"), text);
  details.renew = (isRunning) => { if (details.open && (!isRunning || Date.now() - read > LOG_EACH_MS)) load(); };
  return details;
}
