// Evaluations there are: what each found in a sentence and in figures, and its whole report.
import { getJson } from "./api.js";
import { byId, el, failure } from "./dom.js";

export async function showReports(assistant) {
  const view = byId("view-reports");
  const list = el("div", { class: "list" }, el("p", { class: "state" }, "Looking for reports"));
  view.replaceChildren(view.querySelector("h1"), list);
  try {
    const { reports } = await getJson("v1/reports");
    list.replaceChildren(...(reports.length ? reports.map(card) : [nothing(assistant)]));
  } catch (error) {
    list.replaceChildren(failure(error));
  }
}

function nothing(assistant) {
  if (!assistant.is_admin) return el("p", { class: "empty" }, "There is no report for this key.");
  return el("p", { class: "empty" }, "No report yet. ", el("a", { href: "#jobs" }, "Start the job “Evaluate”"), ": it asks base and tuned the test questions and writes one.");
}

function card(report) {
  const made = report.created && new Date(report.created).toLocaleString("en", { dateStyle: "medium", timeStyle: "short" });
  return el("a", { class: "card", href: report.url, target: "_blank", rel: "noopener" },
    el("span", { class: "title" }, report.title), report.headline && el("span", { class: "faint" }, report.headline),
    report.scores.length > 0 && el("span", { class: "scores" }, report.scores.map(score)),
    el("span", { class: "faint" }, ["Open the report", made].filter(Boolean).join(" · ")));
}

function score({ label, correct, questions }) {
  const share = Math.round((100 * correct) / questions);
  const fill = el("span", { class: "fill" });
  fill.style.width = `${share}%`;
  return el("span", { class: "score" }, el("span", {}, label), el("span", { class: "track", "aria-hidden": "true" }, fill),
    el("span", {}, el("b", {}, `${share}%`), el("span", { class: "faint" }, ` ${correct} of ${questions} right`)));
}
