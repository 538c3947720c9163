// The page of `kvsim trace`: one generation without a cache and with one.

import { HIDDEN, el, put, write } from "../dom.js";
import { run } from "../frame.js";
import { makePrints } from "../prints.js";
import { fullLabel, label, stops } from "../run.js";
import { buildStage } from "../stage.js";
import { go, onChange, state } from "../state.js";
import { buildCost, buildMemory } from "../tabs.js";
import { data, spoken, sums, t, whole } from "../text.js";

const MOST_TILES = 40;
const sofar = { no_cache: sums(data.counts.no_cache.score_cells), cached: sums(data.counts.cached.score_cells) };
let drawTop = () => {};

function fed(step) {
  const texts = [];
  for (let i = step > 1 ? stops[step - 2] : 0; i < stops[step - 1]; i++) texts.push(label(i));
  return texts.length > 12 ? texts.slice(0, 12).join("") + "…" : texts.join("");
}

function top() {
  const tiles = el("div", "tiles");
  const figures = ["no_cache", "cached"].map((name) => {
    const now = el("b", 0);
    const bar = el("i", 0);
    return { name, now, bar, node: el("div", { class: "figure " + name }, el("span", "figure-name", t(name)),
      el("p", 0, now, el("span", "of", " " + t("of", { total: whole(data.totals[name].score_cells) }))), el("div", { class: "meter", ...HIDDEN }, bar)) };
  });
  drawTop = () => {
    drawTiles(tiles);
    for (const { name, now, bar } of figures) {
      const sum = sofar[name][state.step - 1];
      write(now, whole(sum));
      bar.style.width = `${(100 * Number(sum)) / Number(data.totals.no_cache.score_cells)}%`;
    }
  };
  drawTop();
  return el("section", whole(data.totals.no_cache.score_cells).length > 5 ? "top many" : "top",
    el("div", "text", el("h1", 0, t("heading")), el("p", "soft", data.headline[spoken()]), tiles),
    el("div", { class: "figures", "aria-label": t("cells_so_far"), role: "group" }, figures.map((one) => one.node), el("p", "soft", t("cells_so_far"))));
}

function drawTiles(root) {
  const stop = stops[state.step - 1];
  const before = state.step > 1 ? stops[state.step - 2] : 0;
  const from = Math.max(0, stop - MOST_TILES);
  const tiles = [];
  if (from) tiles.push(el("span", "soft", "…"));
  for (let i = from; i < stop; i++) {
    const name = (i >= before ? "tile now" : "tile") + (i >= data.prompt ? " new" : "");
    tiles.push(el("bdi", { class: name, title: fullLabel(i) }, label(i)));
  }
  tiles.push(el("span", { class: "soft", ...HIDDEN }, "→"), el("bdi", "tile next", data.next[state.step - 1]));
  put(root, tiles);
}

onChange(() => drawTop());

run({
  steps: data.feed.length,
  first: stops.at(-1) <= 16 ? data.feed.length : 1, // all of a short run at once
  layers: data.model.layers,
  heads: data.model.heads,
  tabs: [{ id: "cells", build: buildStage }, { id: "memory", build: buildMemory }, { id: "cost", build: buildCost }],
  top,
  bars: () => ["no_cache", "cached"].map((name) => data.counts[name].score_cells.map(Number)),
  title: () => t("title", { text: data.title }),
  sentence: () => t("sentence", {
    step: state.step, last: data.feed.length, fed: fed(state.step), next: data.next[state.step - 1],
    before: whole(data.counts.no_cache.score_cells[state.step - 1]), after: whole(data.counts.cached.score_cells[state.step - 1]),
    rows_before: whole(data.counts.no_cache.projected_rows[state.step - 1]), rows_after: whole(data.counts.cached.projected_rows[state.step - 1]),
  }),
  prints: makePrints,
  keys: {
    "[": () => go({ layer: state.layer - 1 }), "]": () => go({ layer: state.layer + 1 }),
    ",": () => go({ head: state.head - 1 }), ".": () => go({ head: state.head + 1 }),
  },
});
