// Jobs: what runs, how far it is, what it said; new ones are started here.
import { events, getJson, request } from "./api.js";
import { announce, byId, el, failure } from "./dom.js";

const NAMES = { index: "Bring the index up to date", dataset: "Make a dataset", train: "Tune the model", evaluate: "Evaluate" };
const SAID = { queued: "waiting", running: "running", done: "done", failed: "failed", cancelled: "cancelled", interrupted: "goes on soon" };
const ENDED = ["done", "failed", "cancelled"];
let watching = new AbortController();

export function leaveJobs() {
  watching.abort();
}

export async function showJobs(assistant) {
  const view = byId("view-jobs");
  const list = el("div", { class: "list" }, el("p", { class: "state" }, "Looking for jobs"));
  const start = el("div", { class: "bar" });
  view.replaceChildren(view.querySelector("h1"), start, list);
  watching.abort();
  watching = new AbortController();
  try {
    const [{ data: jobs }, { data: kinds }] = await Promise.all([getJson("v1/jobs?limit=50"), getJson("v1/jobs/kinds")]);
    start.replaceChildren(...kinds.map(({ kind, description }) => el("button", { type: "button", class: "quiet", title: description,
      onclick: () => begin(kind, assistant, list) }, NAMES[kind] || kind)));
    list.replaceChildren(...(jobs.length ? jobs.map((job) => {
      const card = jobCard(job);
      follow(job, card, watching.signal);
      return card;
    }) : [el("p", { class: "empty" }, "No job yet. Start one above, or upload a document.")]));
  } catch (error) {
    list.replaceChildren(failure(error));
  }
}

async function begin(kind, assistant, list) {
  try {
    const job = await getJson("v1/jobs", { json: { kind } });
    announce(`${NAMES[kind] || kind}: queued`);
    list.querySelector(".empty, .error")?.remove();
    const card = jobCard(job);
    list.prepend(card);
    await follow(job, card, watching.signal);
  } catch (error) {
    list.querySelector(":scope > .error")?.remove();
    list.prepend(failure(error));
  }
}

/** Return what shows a job; `follow` keeps it up to date. */
export function jobCard(job) {
  const card = el("article", { class: "card", "aria-label": NAMES[job.kind] || job.kind });
  update(card, job);
  return card;
}

/** Follow a job to its end, keeping its card up to date; return it as it ended, or null where it is no longer watched. */
export async function follow(job, card, signal) {
  if (ENDED.includes(job.state)) return job;
  try {
    for await (const { data } of events(`v1/jobs/${job.id}/events`, { signal })) {
      update(card, data);
      if (ENDED.includes(data.state)) return data;
    }
  } catch (error) {
    if (error.name !== "AbortError") card.append(failure(error));
  }
  return null;
}

function update(card, job) {
  const isOpen = !ENDED.includes(job.state);
  const hadFocus = card.contains(document.activeElement);
  const log = card.querySelector("details.more");
  const when = new Date(1000 * (job.ended || job.started || job.created)).toLocaleString("en", { dateStyle: "medium", timeStyle: "short" });
  const far = job.total ? `${job.done.toLocaleString("en")} of ${job.total.toLocaleString("en")}` : "";
  const seconds = job.ended && job.started ? ` · ${Math.max(1, Math.round(job.ended - job.started))} s` : "";
  const bar = el("progress", { max: job.total || 1, "aria-label": job.task || "Progress" });
  if (job.total) bar.value = job.done;
  const stop = el("button", { type: "button", class: "quiet", disabled: job.is_cancelling, onclick: async () => {
    try { update(card, await getJson(`v1/jobs/${job.id}`, { method: "DELETE" })); } catch (error) { card.append(failure(error)); }
  } }, job.is_cancelling ? "Stopping" : "Cancel");
  card.replaceChildren(el("div", { class: "row" }, el("span", { class: "title" }, NAMES[job.kind] || job.kind), el("span", { class: `badge ${job.state}` }, SAID[job.state] || job.state)),
    isOpen && job.state === "running" ? bar : "",
    el("div", { class: "row" }, el("span", { class: "faint" }, isOpen ? [job.task, far].filter(Boolean).join(" · ") || "Waiting for its turn" : `${when}${seconds}`), isOpen ? stop : ""),
    job.error ? el("p", { class: "error" }, job.error) : "", log || logOf(job));
  if (hadFocus && !card.contains(document.activeElement)) card.querySelector("summary").focus();
}

function logOf(job) {
  const text = el("pre", { class: "log", tabindex: "0" });
  return el("details", { class: "more", ontoggle: async (event) => {
    if (!event.target.open) return;
    try { text.textContent = (await (await request(`v1/jobs/${job.id}/log`)).text()) || "Nothing was said."; } catch (error) { text.textContent = error.message; }
    text.scrollTop = text.scrollHeight;
  } }, el("summary", {}, "Log"), text);
}
