// The page an answer cites, drawn, with the quoted line marked; its text beside it for those who cannot see the drawing.
import { blobUrl, getJson } from "./api.js";
import { announce, byId, el, failure, icon } from "./dom.js";

const LARGER = 2.2; // times the panel's width
const MOST_FIT = 1.35; // how far a page is enlarged by itself, so that the marked line fills the panel
const panel = byId("source");
let opener = null;
let shown = null;
let latest = 0;

export const isOpen = () => !panel.hidden;

/** Open one of several citations; focus comes back to `from` when the page is closed. */
export function openSource(citations, place, from) {
  if (from && !panel.contains(from)) markOpener(from);
  const citation = citations[place];
  shown = { citations, place, page: citation.page, asText: shown?.asText || false, isZoomed: shown?.isZoomed || false };
  panel.hidden = false;
  byId("desk").classList.add("split");
  if (from && !panel.contains(from)) panel.focus({ preventScroll: true });
  return load(citation.document, citation.page, citation.quote || "");
}

export function closeSource() {
  if (panel.hidden) return;
  panel.hidden = true;
  byId("desk").classList.remove("split");
  const from = opener;
  markOpener(null);
  from?.isConnected && from.focus();
}

function markOpener(from) {
  opener?.removeAttribute("aria-current");
  opener = from;
  opener?.setAttribute("aria-current", "true");
}

/** Show the citation before or after; return whether there is one. */
export function stepSource(step) {
  const next = shown.place + step;
  if (!shown.citations[next]) return false;
  openSource(shown.citations, next);
  return true;
}

/** Show another page; `quote` is what to mark there. */
async function load(name, number, quote) {
  const turn = ++latest;
  const path = `documents/${encodeURIComponent(name)}/pages/${number}`;
  panel.setAttribute("aria-busy", "true");
  const sheet = el("div", { class: "sheet", tabindex: "0", "aria-label": `Page ${number}` }, el("p", { class: "state" }, el("span", { class: "dots", "aria-hidden": "true" }), "Opening the page"));
  renew(head(name, number, quote), sheet);
  try {
    const page = await getJson(`${path}?${new URLSearchParams({ quote })}`);
    if (turn !== latest) return;
    const picture = page.has_picture ? await draw(path, page) : null;
    if (turn !== latest) return;
    show(page, picture, sheet, name, quote);
  } catch (error) {
    if (turn === latest) sheet.replaceChildren(failure(error));
  }
  if (turn === latest) panel.removeAttribute("aria-busy");
}

/** Put these in the panel; what had the focus there keeps it, by its label. */
function renew(...nodes) {
  const focused = panel.contains(document.activeElement) && document.activeElement !== panel && document.activeElement;
  const label = focused && (focused.getAttribute("aria-label") || focused.textContent);
  panel.replaceChildren(...nodes);
  if (!label) return;
  const again = [...panel.querySelectorAll("button")].find((each) => !each.disabled && (each.getAttribute("aria-label") || each.textContent) === label);
  (again || panel).focus({ preventScroll: true });
}

function head(name, number, quote, page) {
  const { citations, place } = shown;
  const cited = citations[place];
  const quoteOn = (to) => (to === cited.page ? cited.quote || "" : "");
  const turnTo = (to, label, sign) => el("button", { type: "button", class: "plain", disabled: !page || to < 1 || to > page.pages, "aria-label": label, title: label,
    onclick: () => load(name, to, quoteOn(to)) }, icon(sign));
  const others = citations.length > 1 && el("span", { class: "numbers" }, citations.map((each, at) => el("button", { type: "button", class: "cite",
    "aria-label": `Source ${each.number}`, "aria-current": at === place && "true", onclick: (event) => openSource(citations, at, event.currentTarget) }, String(each.number))));
  const asText = page?.has_picture && el("button", { type: "button", class: "quiet", "aria-pressed": String(shown.asText),
    onclick: () => { shown.asText = !shown.asText; load(name, number, quoteOn(number)); } }, "As text");
  const larger = page?.has_picture && !shown.asText && el("button", { type: "button", class: "quiet", id: "zoom", "aria-pressed": String(shown.isZoomed), onclick: zoom }, "Larger");
  return el("header", {},
    el("div", { class: "line" }, others, el("h2", { title: name }, page?.title || name),
      el("button", { type: "button", class: "plain", "aria-label": "Close the page", title: "Close (Esc)", onclick: closeSource }, icon("close"))),
    el("div", { class: "line" }, turnTo(number - 1, "Page before", "left"), el("span", { class: "faint" }, `Page ${number}${page ? ` of ${page.pages}` : ""}`),
      turnTo(number + 1, "Next page", "right"), el("span", { class: "end" }), larger, asText),
    quote && el("q", { class: "quote" }, quote));
}

async function draw(path, page) {
  const wanted = Math.min(2000, Math.max(600, Math.round(panel.clientWidth * (shown.isZoomed ? LARGER : MOST_FIT) * Math.min(2, devicePixelRatio || 1))));
  const image = el("img", { alt: `Page ${page.number} of ${page.document}`, onclick: zoom, src: await blobUrl(`${path}/picture?width=${wanted}`) });
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
  renew(head(name, page.number, quote, page), sheet);
  const asText = shown.asText || !picture;
  const words = el("pre", { class: "words" });
  const [start, end] = page.span || [0, 0];
  words.append(page.text.slice(0, start), end > start ? el("mark", {}, page.text.slice(start, end)) : "", page.text.slice(end));
  if (!page.text.trim()) words.append("No text could be read from this page.");
  const lost = quote && !(asText ? page.span : page.lines.length);
  sheet.replaceChildren(lost ? el("p", { class: "faint lost" }, "The quoted line was read from this page, yet its place on it was not found.") : "", asText ? words : picture);
  shown.lines = asText ? [] : page.lines;
  const mark = bringInView(sheet);
  announce(mark ? `Page ${page.number} of ${name}, at: ${quote}` : `Page ${page.number} of ${name}`);
}

/** Scroll to the beginning of what is marked, its figure in view; return it. */
function bringInView(sheet) {
  const paper = sheet.querySelector(".paper");
  const widest = Math.max(0, ...shown.lines.map((box) => box.width));
  const scale = shown.isZoomed ? LARGER : widest ? Math.min(MOST_FIT, Math.max(1, 1 / (widest + 0.06))) : 1;
  if (paper) paper.style.width = `${100 * scale}%`;
  sheet.classList.toggle("zoomed", shown.isZoomed);
  const mark = sheet.querySelector("mark, .hit");
  if (!mark) return null;
  const edge = 12;
  const [frame, place] = [sheet.getBoundingClientRect(), mark.getBoundingClientRect()];
  sheet.scrollTop += place.top - frame.top - sheet.clientHeight / 3;
  sheet.scrollLeft += place.left - frame.left - Math.max(edge, (sheet.clientWidth - place.width) / 2);
  const over = (sheet.querySelector(".amount")?.getBoundingClientRect().right ?? 0) - frame.left - sheet.clientWidth + (shown.isZoomed ? sheet.clientWidth / 5 : edge);
  if (over > 0) sheet.scrollLeft += over;
  return mark;
}

function zoom() {
  shown.isZoomed = !shown.isZoomed;
  byId("zoom")?.setAttribute("aria-pressed", String(shown.isZoomed));
  bringInView(panel.querySelector(".sheet"));
}
