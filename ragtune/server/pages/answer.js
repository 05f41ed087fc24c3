// One answer: searched, drafted, checked; its sources, what was set right, and a thumb.
import { events, request } from "./api.js";
import { announce, count, el, failure, icon } from "./dom.js";
import { openSource } from "./source.js";

/** Return the text with its marks [n] as buttons that open the source. */
function withMarks(text, citations, open) {
  return text.split(/(\[\d{1,3}\])/).map((part) => {
    const found = /^\[(\d{1,3})\]$/.exec(part) && citations.find((each) => each.number === Number(part.slice(1, -1)));
    if (!found) return part;
    return el("button", { type: "button", class: "cite", "aria-label": `Source ${found.number}: ${found.document}, page ${found.page}`,
      onclick: (event) => open(found, event.currentTarget) }, String(found.number));
  });
}

export class Answer {
  /** `asking` is { question, model, where }; `title` is shown above the answer where several stand side by side. */
  constructor(asking, title = "") {
    this.asking = asking;
    this.title = title;
    this.controller = new AbortController();
    this.draft = "";
    this.state = el("p", { class: "state" }, el("span", { class: "dots", "aria-hidden": "true" }), "Searching the documents");
    this.drafted = el("div", { class: "draft", "aria-hidden": "true" });
    this.body = el("div", { class: "checked" });
    this.node = el("article", { class: "answer", "aria-label": title ? `Answer, ${title}` : "Answer", "aria-busy": "true" },
      title && el("h3", {}, title), this.state, this.drafted, this.body);
  }

  /** Ask and show what comes. */
  async run() {
    const { question, model, where } = this.asking;
    const json = { model, messages: [{ role: "user", content: question }], stream: true, ragtune: { draft: true } };
    if (where) json.ragtune.where = where;
    try {
      for await (const { data } of events("v1/chat/completions", { json, signal: this.controller.signal })) {
        if (data.error) throw new Error(data.error.message);
        this.hear(data.ragtune || {});
      }
      if (!this.result) throw new Error("The answer broke off. Ask again.");
    } catch (error) {
      this.state.remove();
      this.drafted.remove();
      this.body.replaceChildren(error.name === "AbortError" ? el("p", { class: "faint" }, "Stopped.") : failure(error),
        el("p", { class: "again" }, el("button", { type: "button", class: "quiet", onclick: () => this.again() }, "Ask again")));
    }
    this.node.removeAttribute("aria-busy");
    return this.result;
  }

  /** Run, as the form that holds the answers wants it. */
  begin() {
    return this.run();
  }

  /** Ask the same once more, in the same place. */
  again() {
    const next = new Answer(this.asking, this.title);
    this.node.replaceWith(next.node);
    next.node.closest(".turn")?.focus({ preventScroll: true });
    next.begin = this.begin;
    return next.begin();
  }

  stop() {
    this.controller.abort();
  }

  hear(said) {
    if (said.draft !== undefined) {
      this.draft += said.draft;
      this.drafted.textContent = this.draft;
    } else if (said.citations) {
      this.show(said);
    } else if (said.passages) {
      const found = said.passages.length ? `${count(said.passages.length, "passage")} found, writing` : "Writing";
      this.state.lastChild.textContent = found;
      announce(found);
    }
  }

  show(result) {
    result.citations.sort((one, other) => one.number - other.number);
    this.result = result;
    this.state.remove();
    this.drafted.remove();
    const open = (citation, opener) => openSource(result.citations, result.citations.indexOf(citation), opener);
    const marks = result.citations.map((each) => `[${each.number}]`).join("");
    const said = el("p", { class: result.is_refusal ? "said refused" : "said" }, withMarks(`${result.answer} ${marks}`.trim(), result.citations, open));
    const lines = result.is_refusal ? [] : result.reasoning.split("\n").map((line) => line.trim()).filter(Boolean);
    this.body.replaceChildren(said, result.is_refusal ? this.advice(result) : "",
      lines.length ? el("ul", { class: "reasoning" }, lines.map((line) => el("li", {}, withMarks(line, result.citations, open)))) : "",
      this.sources(result, open), this.remarks(result), this.foot(result));
    announce(`Answer: ${result.answer}. ${count(result.citations.length, "source")}.`);
  }

  /** What to try after a refusal: why it was refused where that is known, else how to ask. */
  advice({ problems, passages }) {
    if (problems.length) return el("ul", { class: "remarks" }, problems.map((each) => el("li", {}, each)));
    const how = this.asking.where ? "Remove the filter, or name" : "Name";
    return el("p", { class: "faint" }, passages.length ? `${how} the document's subject and year, or open the passages below: the answer may be worded otherwise there.`
      : `${how} the document's subject and year, or choose a model that reads the documents.`);
  }

  sources(result, open) {
    if (!result.citations.length) return "";
    return el("ol", { class: "sources", "aria-label": "Sources" }, result.citations.map((citation) => {
      const passage = result.passages.find((each) => each.number === citation.number);
      return el("li", {}, el("button", { type: "button", class: "source", onclick: (event) => open(citation, event.currentTarget) },
        el("span", { class: "number" }, String(citation.number)),
        el("span", { class: "what" }, el("span", { class: "title" }, passage?.title || `${citation.document}, page ${citation.page}`),
          el("q", {}, citation.quote))));
    }));
  }

  remarks(result) {
    const said = [...(result.is_refusal ? [] : result.problems), ...result.notes];
    const how = [...result.reasons, ...(result.filter ? [`Searched where ${result.filter}`] : [])];
    const cited = new Set(result.citations.map((each) => each.number));
    return el("details", { class: "more" },
      el("summary", {}, said.length ? el("span", { class: "alarm" }, count(said.length, "remark")) : "", said.length ? " · " : "",
        result.passages.length ? `${count(result.passages.length, "passage")} read` : "No passage read"),
      said.length ? el("ul", { class: "remarks" }, said.map((each) => el("li", {}, each))) : "",
      how.length ? el("ul", { class: "faint" }, how.map((each) => el("li", {}, each))) : "",
      result.passages.map((passage) => el("div", { class: cited.has(passage.number) ? "passage cited" : "passage" },
        el("button", { type: "button", class: "link", onclick: (event) => openSource([{ ...passage, quote: passage.text.split("\n")[0] }], 0, event.currentTarget) },
          `[${passage.number}] ${passage.title}`),
        el("pre", { tabindex: "0", "aria-label": `Passage ${passage.number}` }, passage.text))));
  }

  foot(result) {
    const right = el("form", { class: "right", hidden: true });
    const said = el("span", { class: "faint", role: "status" });
    const thumb = (name, label) => el("button", { type: "button", class: "plain", "aria-label": label, title: label, "aria-pressed": "false",
      onclick: (event) => this.judge(name, event.currentTarget, right, said) }, icon(name));
    const copy = navigator.clipboard && el("button", { type: "button", class: "plain", "aria-label": "Copy the answer", title: "Copy", onclick: async () => {
      const sources = result.citations.map((each) => `[${each.number}] ${each.document}, page ${each.page}: ${each.quote}`);
      try {
        await navigator.clipboard.writeText([result.answer, ...sources].join("\n"));
        said.textContent = "Copied";
      } catch {
        said.textContent = "The browser does not let this page copy";
      }
    } }, icon("copy"));
    const seconds = result.timings_s.total;
    return el("footer", {}, el("div", { class: "row" },
      el("span", { class: "faint" }, result.model, seconds !== undefined ? ` · ${seconds.toFixed(seconds < 10 ? 1 : 0)} s` : ""),
      el("span", { class: "acts" }, said, copy, thumb("up", "Good answer"), thumb("down", "Bad answer"))), right);
  }

  async judge(verdict, button, right, said) {
    for (const each of button.parentNode.querySelectorAll("[aria-pressed]")) each.setAttribute("aria-pressed", String(each === button));
    const sent = await this.send(verdict, "", said);
    right.hidden = verdict !== "down" || !sent;
    if (right.hidden) return;
    const id = `right-${Math.random().toString(36).slice(2)}`;
    const field = el("input", { id, type: "text", placeholder: "For example $4,210 million" });
    right.replaceChildren(el("label", { for: id }, "What is the right answer? It helps most, yet may stay empty."), el("div", { class: "row" }, field, el("button", { class: "main" }, "Save")));
    right.onsubmit = async (event) => {
      event.preventDefault();
      if (field.value.trim() && (await this.send(verdict, field.value.trim(), said))) right.hidden = true;
    };
    field.focus({ preventScroll: true });
    right.scrollIntoView({ block: "nearest" });
  }

  async send(verdict, rightAnswer, said) {
    const { result } = this;
    try {
      await request("v1/feedback", { json: { question: this.asking.question, model: result.model, verdict, right_answer: rightAnswer,
        completion: this.draft, answer: result.answer, passages: result.passages.map((each) => each.chunk_id) } });
      said.textContent = rightAnswer ? "Saved, with the right answer" : "Saved";
      return true;
    } catch (error) {
      said.textContent = error.message;
      return false;
    }
  }
}
