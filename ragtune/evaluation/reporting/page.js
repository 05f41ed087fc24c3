"use strict";
// Filters the questions of a report: rung, outcome of each model, stage, kind, document, words. Without it all are shown.
(() => {
  const form = document.getElementById("filter"), list = document.getElementById("questions");
  if (!form || !list) return;
  const items = Array.from(list.children, node => ({node, facts: JSON.parse(node.dataset.facts), words: null}));
  const value = name => (form.elements[name] ? form.elements[name].value : "");
  const wordsOf = item => {
    if (item.words === null) {
      const parts = [item.node.querySelector("summary"), ...item.node.querySelectorAll(".body > p, .answer")];
      item.words = (item.facts.id + " " + item.facts.documents.join(" ") + " " + item.facts.companies.join(" ") + " "
        + parts.map(part => part.textContent).join(" ")).toLowerCase();
    }
    return item.words;
  };
  const fits = (item, wanted) => {
    const {facts} = item, outcomes = facts.outcomes[wanted.setting] || {};
    if (!wanted.models.every(([model, outcome]) => outcomes[model] === outcome)) return false;
    if (wanted.differ && new Set(Object.values(outcomes)).size < 2) return false;
    if (wanted.stage && !Object.values(facts.lost).includes(wanted.stage)) return false;
    if (wanted.kind && facts.kind !== wanted.kind) return false;
    const at = wanted.document.indexOf(":"), name = wanted.document.slice(at + 1);
    if (at > 0 && !(wanted.document.startsWith("company:") ? facts.companies : facts.documents).includes(name)) return false;
    return wanted.words.every(word => wordsOf(item).includes(word));
  };
  const apply = () => {
    const wanted = {
      setting: value("setting"), stage: value("stage"), kind: value("kind"), document: value("document"),
      differ: Boolean(form.elements.differ && form.elements.differ.checked),
      models: Array.from(form.querySelectorAll("[data-model]"), field => [field.dataset.model, field.value]).filter(pair => pair[1]),
      words: value("text").toLowerCase().split(/\s+/).filter(Boolean),
    };
    let shown = 0;
    for (const item of items) {
      const is = fits(item, wanted);
      item.node.hidden = !is;
      shown += is;
      for (const part of item.node.querySelectorAll("[data-setting]")) part.hidden = part.dataset.setting !== wanted.setting;
    }
    document.getElementById("count").textContent = shown === items.length ? `${shown} questions.`
      : shown ? `${shown} of ${items.length} questions.` : `None of ${items.length} questions fits. Show all, or ask for less.`;
  };
  const go = step => {
    const open = items.filter(item => !item.node.hidden).map(item => item.node.querySelector("summary"));
    const at = open.indexOf(document.activeElement);
    const next = open[at < 0 ? (step > 0 ? 0 : open.length - 1) : Math.min(Math.max(at + step, 0), open.length - 1)];
    if (next) { next.focus(); next.scrollIntoView({block: "nearest"}); }
  };
  const follow = () => {
    const node = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!node || !node.classList.contains("question")) return;
    if (node.hidden) form.reset();
    apply();
    node.open = true;
    node.scrollIntoView();
  };
  form.hidden = false;
  document.getElementById("keys").hidden = false;
  form.addEventListener("input", apply);
  form.addEventListener("submit", event => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(apply));
  document.addEventListener("keydown", event => {
    const isTyping = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape" && event.target === form.elements.text) { event.target.value = ""; apply(); event.target.blur(); }
    if (isTyping) return;
    if (event.key === "/") { event.preventDefault(); form.elements.text.focus(); form.scrollIntoView(); }
    if (event.key === "j") go(1);
    if (event.key === "k") go(-1);
  });
  addEventListener("hashchange", follow);
  apply();
  follow();
})();
