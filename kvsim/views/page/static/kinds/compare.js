// The page of `kvsim compare`: the same tokens through several caches.

import { chart } from "../charts.js";
import { buildColumns, headCount, makeLegend, say } from "../columns.js";
import { el, put, scroll } from "../dom.js";
import { run } from "../frame.js";
import { CELLS, before, chosen, countRows, fateIn, fatesOf, lastStop, runs, tokenAt } from "../policies.js";
import { go, onChange, state } from "../state.js";
import { data, digits, sizeOf, spoken, t, whole } from "../text.js";

const MOST_TILES = 40;
const MOST_ROWS = 64;
const MOST_PRINTED = 24;
let drawTop = () => {};

function fed(step) {
  const texts = data.tokens.slice(before(step), data.stops[step - 1]);
  return texts.length > 12 ? texts.slice(0, 12).join("") + "…" : texts.join("");
}

function top() {
  const tiles = el("div", "tiles");
  drawTop = () => {
    const stop = data.stops[state.step - 1];
    const from = Math.max(0, stop - MOST_TILES);
    put(tiles, from ? el("span", "soft", "…") : null, data.tokens.slice(from, stop).map((token, i) =>
      el("bdi", (from + i >= before(state.step) ? "tile now" : "tile") + (from + i >= data.prompt ? " new" : ""), token)));
  };
  drawTop();
  return el("section", "top single", el("div", "text", el("h1", 0, t("heading")), el("p", "soft", data.headline[spoken()]), tiles));
}

function sentence() {
  const { step } = state;
  const told = runs.map((one) => {
    const fates = fatesOf(one);
    const choice = say(one, step);
    if (!fates) return t("sentence_bytes", { cache: one.cache, bytes: whole(one.steps.logical_bytes[step - 1]), choice });
    const { held, evicted } = countRows(fates, step);
    return t("sentence_run", { cache: one.cache, rows: whole(held), all: whole(data.stops[step - 1]), evicted: whole(evicted), choice });
  });
  return t(runs.length ? "sentence" : "sentence_alone", { step, last: data.stops.length, fed: fed(step), layer: state.layer, head: state.head, runs: told.join(spoken() === "zh" ? "" : " ") });
}

// Each position as a row: of many those around the present step.
function buildLogits(root) {
  const body = el("tbody", 0);
  const head = el("tr", 0, el("th", { scope: "col" }, t("position")), el("th", { scope: "col", class: "text" }, t("token")),
    runs.flatMap((one) => [el("th", { scope: "col" }, one.cache, " KL"), el("th", { scope: "col", class: "text" }, "→")]));
  root.append(scroll(t("positions"), el("table", "steps positions", el("caption", 0, t("positions")), el("thead", 0, head), body)));
  return () => {
    const stop = data.stops[state.step - 1];
    const from = lastStop <= MOST_ROWS ? 0 : Math.max(0, stop - MOST_ROWS);
    const to = lastStop <= MOST_ROWS ? lastStop : Math.max(stop, Math.min(lastStop, MOST_ROWS));
    put(body, Array.from({ length: to - from }, (_, i) => row(from + i)));
  };
}

function row(position) {
  const now = position >= before(state.step) && position < data.stops[state.step - 1];
  return el("tr", { "aria-current": now ? "step" : null }, el("td", 0, position), el("td", "text", el("bdi", 0, tokenAt(position))),
    runs.flatMap((one) => [el("td", 0, digits(one.rows.divergence[position])),
      el("td", one.rows.same[position] ? "text" : "text other", (one.rows.same[position] ? "= " : "≠ "), el("bdi", 0, chosen(one, position)))]));
}

function buildMemory(root) {
  const bytes = (x) => (x === 0 ? "0" : sizeOf(Math.round(x)));
  const most = [data.reference, ...runs].flatMap((one) => one.steps.allocated_bytes).reduce((high, x) => Math.max(high, Number(x)), 1);
  const charts = runs.map((one) => chart(t("memory_of", { cache: one.cache }), [
    { name: "allocated", label: t("series_allocated"), values: one.steps.allocated_bytes, shape: "area" },
    { name: "held", label: t("series_held"), values: one.steps.logical_bytes, shape: "area" },
    { name: "reference", label: t("series_reference"), values: data.reference.steps.logical_bytes, shape: "line" },
  ], bytes, 2, most));
  root.append(el("div", "charts", charts.map((one) => one.node)), el("p", "notes soft", t("memory_note")));
  return () => charts.forEach((one) => one.update());
}

// On paper: the rows after every step, each cache as a table of letters' colours.
function prints() {
  const steps = data.stops.length;
  const shown = Array.from({ length: steps }, (_, i) => i + 1).filter((step) => step === steps || (step - 1) % Math.ceil(steps / MOST_PRINTED) === 0);
  const line = (one, step) => {
    const fates = fatesOf(one);
    return el("div", "paper-row", el("b", 0, step), fates && data.tokens.slice(0, data.stops[step - 1]).map((_, i) => {
      const name = fateIn(fates, step, i);
      return el("i", { "data-state": name }, CELLS[name]);
    }));
  };
  const where = t("in_layer", { layer: state.layer, head: state.head });
  return runs.map((one, i) => el("section", "paper", i === 0 && makeLegend(), el("h2", 0, one.cache, " ", el("small", "soft", where)),
    lastStop <= 64 && el("div", "paper-row heads", el("b", 0, ""), data.tokens.map((token) => el("i", 0, token))),
    lastStop <= 64 && shown.map((step) => line(one, step))));
}

onChange(() => drawTop());

run({
  steps: data.stops.length,
  first: lastStop <= 40 ? data.stops.length : 1, // all of a short run at once
  layers: data.model.layers,
  heads: headCount(),
  tabs: [{ id: "rows", build: buildColumns }, { id: "logits", build: buildLogits }, { id: "memory", build: buildMemory }],
  top,
  bars: () => [data.reference, runs[0] || data.reference].map((one) => one.steps.logical_bytes.map(Number)),
  title: () => t("title", { text: data.title }),
  sentence,
  prints,
  keys: {
    "[": () => go({ layer: state.layer - 1 }), "]": () => go({ layer: state.layer + 1 }),
    ",": () => go({ head: state.head - 1 }), ".": () => go({ head: state.head + 1 }),
  },
});
