// Evaluations there are: what each found in a sentence, and its whole report.
import { getJson } from "./api.js";
import { byId, el, failure } from "./dom.js";

export async function showReports() {
  const view = byId("view-reports");
  const list = el("div", { class: "list" }, el("p", { class: "state" }, "Looking for reports"));
  view.replaceChildren(view.querySelector("h1"), list);
  try {
    const { reports } = await getJson("v1/reports");
    if (!reports.length) {
      list.replaceChildren(el("p", { class: "empty" }, "No evaluation yet. One is made by a job, or by ", el("code", {}, "ragtune evaluate"), "."));
      return;
    }
    list.replaceChildren(...reports.map((report) => el("a", { class: "card", href: report.url, target: "_blank", rel: "noopener" },
      el("span", { class: "title" }, report.title), report.headline && el("span", {}, report.headline),
      el("span", { class: "faint" }, [report.kind, report.created && new Date(report.created).toLocaleString("en", { dateStyle: "medium", timeStyle: "short" })].filter(Boolean).join(" · ")))));
  } catch (error) {
    list.replaceChildren(failure(error));
  }
}
