// The page an answer cites, drawn, with the quoted line marked; its text beside it for those who cannot see the drawing.
import { blobUrl, getJson } from "./api.js";
import { announce, byId, el, failure, icon } from "./dom.js";

const panel = byId("source");
let opener = null;
let shown = null;
let latest = 0;

export const isOpen = () => !panel.hidden;

/** Open one of several citations; focus comes back to `from` when the page is closed. */
export function openSource(citations, place, from) {
  if (from && !panel.contains(from)) opener = from;
  const citation = citations[place];
  shown = { citations, place, page: citation.page, asText: shown?.asText || false, isZoomed: shown?.isZoomed ?? innerWidth < 600 };
  panel.hidden = false;
  byId("desk").classList.add("split");
  if (from) panel.focus({ preventScroll: true });
  return load(citation.document, citation.page, citation.quote || "");
}

export function closeSource() {
  if (panel.hidden) return;
  panel.hidden = true;
  byId("desk").classList.remove("split");
  opener?.isConnected && opener.focus();
}

/** Show the citation before or after; return whether there is one. */
export function stepSource(step) {
  const next = shown.place + step;
  if (!shown.citations[next]) return false;
  openSource(shown.citations, next);
  return true;
}

async function load(name, number, quote) {
  const turn = ++latest;
  const path = `documents/${encodeURIComponent(name)}/pages/${number}`;
  panel.setAttribute("aria-busy", "true");
  const sheet = el("div", { class: "sheet" }, el("p", { class: "state" }, "Opening the page"));
  panel.replaceChildren(head(name, number), sheet);
  try {
    const page = await getJson(`${path}?${new URLSearchParams({ quote })}`);
    const picture = page.has_picture ? await draw(path, page) : null;
    if (turn !== latest) return;
    show(page, picture, sheet, name, quote);
  } catch (error) {
    if (turn === latest) sheet.replaceChildren(failure(error));
  }
  panel.removeAttribute("aria-busy");
}

function head(name, number, page) {
  const { citations, place } = shown;
  const cited = citations[place];
  const turnTo = (to) => el("button", { type: "button", class: "plain", disabled: !page || to < 1 || to > page.pages, "aria-label": to < number ? "Page before" : "Next page",
    onclick: () => load(name, to, to === cited.page ? cited.quote : "").then(() => panel.focus({ preventScroll: true })) }, icon(to < number ? "left" : "right"));
  return el("header", {}, el("div", { class: "line" },
    citations.length > 1 && el("span", { class: "number" }, String(cited.number)),
    el("h2", { title: name }, page?.title || name),
    el("button", { type: "button", class: "plain", "aria-label": "Close the page", onclick: closeSource }, icon("close"))),
  el("div", { class: "line" }, turnTo(number - 1), el("span", { class: "faint" }, `Page ${number}${page ? ` of ${page.pages}` : ""}`), turnTo(number + 1),
    page?.has_picture && !shown.asText && el("button", { type: "button", class: "quiet end", id: "zoom", "aria-pressed": String(shown.isZoomed), onclick: zoom }, "Larger"),
    page?.has_picture && el("button", { type: "button", class: shown.asText ? "quiet end" : "quiet", "aria-pressed": String(shown.asText), onclick: () => { shown.asText = !shown.asText; load(name, number, number === cited.page ? cited.quote : ""); } }, "As text")));
}

async function draw(path, page) {
  const wanted = Math.min(1600, Math.max(600, Math.round(panel.clientWidth * Math.min(2, devicePixelRatio || 1))));
  const image = el("img", { onclick: zoom, alt: `Page ${page.number} of ${page.document}`, src: await blobUrl(`${path}/picture?width=${wanted}`) });
  await image.decode().catch(() => {});
  URL.revokeObjectURL(image.src);
  const put = (box, kind) => {
    const mark = el("span", { class: kind });
    for (const side of ["left", "top", "width", "height"]) mark.style[side] = `${100 * box[side]}%`;
    return mark;
  };
  return el("div", { class: "paper" }, image, page.lines.map((box) => put(box, "hit")), page.amount.map((box) => put(box, "hit amount")));
}

function show(page, picture, sheet, name, quote) {
  panel.replaceChildren(head(name, page.number, page), sheet);
  const asText = shown.asText || !picture;
  const words = el("pre", { class: "words" });
  const [start, end] = page.span || [0, 0];
  words.append(page.text.slice(0, start), end > start ? el("mark", {}, page.text.slice(start, end)) : "", page.text.slice(end));
  const lost = quote && !(asText ? page.span : page.lines.length);
  sheet.replaceChildren(lost ? el("p", { class: "faint lost" }, `The line itself was not found on this page: “${quote}”`) : "", asText ? words : picture);
  const mark = bringInView(sheet);
  announce(mark ? `Page ${page.number} of ${name}, at: ${quote}` : `Page ${page.number} of ${name}`);
}

/** Scroll to the beginning of what is marked; return it. */
function bringInView(sheet) {
  sheet.classList.toggle("zoomed", shown.isZoomed);
  const mark = sheet.querySelector("mark, .hit");
  if (!mark) return null;
  const [frame, place] = [sheet.getBoundingClientRect(), mark.getBoundingClientRect()];
  sheet.scrollTop += place.top - frame.top - sheet.clientHeight / 3;
  sheet.scrollLeft += place.left - frame.left - 16;
  return mark;
}

function zoom() {
  shown.isZoomed = !shown.isZoomed;
  byId("zoom")?.setAttribute("aria-pressed", String(shown.isZoomed));
  bringInView(panel.querySelector(".sheet"));
}
