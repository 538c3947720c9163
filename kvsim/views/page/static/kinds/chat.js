// The page of `kvsim chat`: turns, forks and edits, with a cache that is kept and with a fresh one.

import { chart } from "../charts.js";
import { HIDDEN, add, el, put, scroll, svg, write } from "../dom.js";
import { run } from "../frame.js";
import { go, onChange, state } from "../state.js";
import { LANGUAGES, data, digits, sizeOf, spoken, t, whole } from "../text.js";

const LETTERS = { prompt: "P", key: "N", value: "R", masked: "x", zero: "" };
const MOST_CELLS = 600; // tokens of a turn drawn one by one
const SIDES = ["fresh", "reused"];
const lines = data.lines;
const own = (line) => [...line.text, ...line.reply];
const stopOf = (line) => line.start + line.text.length + line.reply.length;
const widest = Math.max(...lines.map((line) => Math.max(stopOf(line), line.cached + line.dropped)));
let drawTop = () => {};

function now() {
  return lines[state.step - 1];
}

function inLanguage(texts) {
  return texts[LANGUAGES.indexOf(spoken())];
}

function tokensOf(path) {
  return path.flatMap((i) => own(lines[i]));
}

// The texts of tokens that are cut, whole, by their places in a line and those that it follows.
function longOf(path) {
  return path.flatMap((i) => own(lines[i]).map((_, k) => lines[i].long[k]));
}

// The states of a line's tokens in one run, in order: [state, count] of each stretch.
function stretches(line, side) {
  const fed = line.start + line.text.length;
  const cached = side === "fresh" ? 0 : line.cached;
  return [["prompt", cached], ["key", fed - cached], ["value", line.reply.length - 1], ["zero", 1]];
}

function bar(parts) {
  let x = 0;
  return svg("svg", { class: "strip-bar", viewBox: `0 0 ${widest} 1`, preserveAspectRatio: "none", ...HIDDEN }, parts.map(([name, count]) => {
    x += count;
    return svg("rect", { "data-fill": name, x: x - count, y: 0, width: count, height: 1 });
  }));
}

function cells(tokens, parts, name, long = []) {
  const states = parts.flatMap(([state, count]) => Array(count).fill(state));
  return el("ol", { class: "tokens", "aria-label": name }, tokens.map((token, i) =>
    el("li", { "data-state": states[i], title: `${i}: ${t("state_" + states[i])}` + (long[i] ? "\n" + long[i] : "") }, el("bdi", 0, token), el("small", 0, LETTERS[states[i]]))));
}

function top() {
  const talk = el("ol", "talk");
  drawTop = () => {
    const line = now();
    const path = [...line.before.slice(-3), state.step - 1];
    put(talk, path.map((i) => el("li", i === state.step - 1 ? "here-turn" : null,
      el("b", 0, inLanguage(lines[i].label)), " ", el("bdi", 0, lines[i].text.join("")), el("span", "soft", " → "), el("bdi", "reply", lines[i].reply.join("")))));
  };
  drawTop();
  return el("section", "top single", el("div", "text", el("h1", 0, t("heading")), el("p", "soft", data.headline[spoken()]), talk));
}

class Side {
  constructor(side) {
    this.side = side;
    this.size = el("b", 0);
    this.note = el("p", "soft");
    this.body = el("div", "body");
    this.node = el("section", { class: "side " + side, "aria-labelledby": "side-" + side },
      el("header", 0, el("h2", { id: "side-" + side }, t(side)), el("p", "size", this.size)), this.note, this.body);
  }

  update() {
    const line = now();
    const { side } = this;
    const parts = stretches(line, side);
    const fed = stopOf(line) - 1 - (side === "fresh" ? 0 : line.cached);
    write(this.size, t("size", { tokens: whole(fed) }));
    write(this.note, side === "fresh" ? t("note_fresh") : t("note_reused", { cached: whole(line.cached) }));
    const tokens = [...tokensOf(line.before), ...own(line)];
    const drawn = tokens.length <= MOST_CELLS;
    put(this.body, bar(parts), drawn ? cells(tokens, parts, t("tokens_of", { run: t(side) }), longOf([...line.before, state.step - 1])) : el("p", "soft", t("many", { n: MOST_CELLS })),
      side === "reused" && line.dropped ? this.dropped(line) : null);
  }

  dropped(line) {
    const text = t("dropped", { n: whole(line.dropped) });
    const tokens = tokensOf(line.conversation).slice(line.cached, line.cached + line.dropped);
    return el("div", "dropped", el("p", "verdict", text), line.restart && el("p", "soft", inLanguage(line.restart)),
      bar([["none", line.cached], ["masked", line.dropped]]),
      line.dropped <= MOST_CELLS && cells(tokens, [["masked", line.dropped]], text));
  }
}

function makeLegend() {
  return el("ul", "legend", Object.entries(LETTERS).map(([name, letter]) => el("li", 0, el("span", { class: "swatch", "data-state": name, ...HIDDEN }, letter), t("state_" + name))));
}

function buildTurns(root) {
  const sides = SIDES.map((side) => new Side(side));
  const table = makeTable();
  add(root, el("div", "bar", makeLegend()),
  el("div", "stage", sides.map((side) => side.node)), table.node);
  return () => {
    for (const side of sides) side.update();
    table.update();
  };
}

function pair(fresh, reused, name) {
  return `${whole(fresh[name])} / ${whole(reused[name])}`;
}

function makeTable() {
  const counts = ["score_cells", "projected_rows", "macs"];
  const rows = lines.map((line, i) => el("tr", { "data-step": i + 1, onclick: () => go({ step: i + 1 }) },
    el("td", "text", el("a", { href: "#step=" + (i + 1), onclick: (event) => { event.preventDefault(); go({ step: i + 1 }); } }, inLanguage(line.label))),
    el("td", "text", el("bdi", 0, line.text.join(""))), el("td", "text", el("bdi", 0, line.reply.join(""))),
    el("td", 0, whole(line.cached)), el("td", 0, whole(line.new)), counts.map((name) => el("td", 0, pair(line.fresh, line.reused, name))),
    el("td", 0, whole(line.reused.kv_bytes)), el("td", 0, digits(line.max_abs_diff))));
  const heads = ["turn", "text", "reply", "tokens_reused", "tokens_fed", ...counts, "kv_bytes", "diff"];
  const sum = (name) => whole(lines.reduce((total, line) => total + line[name], 0));
  const table = el("table", "steps", el("caption", 0, t("all_turns")),
    el("thead", 0, el("tr", 0, heads.map((name, i) => el("th", { scope: "col", class: i < 3 ? "text" : null }, t(name))))),
    el("tbody", 0, rows),
    el("tfoot", 0, el("tr", "totals", el("th", { scope: "row" }, t("total")), el("td", 0), el("td", 0), el("td", 0, sum("cached")), el("td", 0, sum("new")),
      counts.map((name) => el("td", 0, pair(data.totals.fresh, data.totals.reused, name))), el("td", 0), el("td", 0)),
    el("tr", 0, el("th", { scope: "row" }, t("saved")), Array.from({ length: 4 }, () => el("td", 0)), counts.map((name) => el("td", 0, data.saved[name])), el("td", 0), el("td", 0))));
  return {
    node: el("div", "summary", scroll(t("all_turns"), table)),
    update: () => rows.forEach((row, i) => (i + 1 === state.step ? row.setAttribute("aria-current", "step") : row.removeAttribute("aria-current"))),
  };
}

function short(x) {
  const found = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]].find(([size]) => x >= size);
  return found ? Number((x / found[0]).toPrecision(3)) + found[1] : String(Math.round(x));
}

function buildMemory(root) {
  const plot = chart(t("memory_title"), [
    { name: "allocated", label: t("allocated"), values: lines.map((line) => line.reused.allocated_bytes), shape: "area" },
    { name: "held", label: t("held"), values: lines.map((line) => line.reused.kv_bytes), shape: "area" },
  ], (x) => (x === 0 ? "0" : sizeOf(Math.round(x))), 2);
  root.append(plot.node);
  return plot.update;
}

function buildCost(root) {
  const names = { fresh: "no_cache", reused: "cached" }; // the colours of a run without a cache and of one with it
  const plots = [["cells_title", "score_cells"], ["macs_title", "macs"]].map(([title, name]) => chart(t(title),
    SIDES.map((side) => ({ name: names[side], label: t(side), values: lines.map((line) => line[side][name]), shape: "bars" })), short));
  root.append(...plots.map((plot) => plot.node));
  return () => plots.forEach((plot) => plot.update());
}

function prints() {
  return lines.map((line, i) => el("section", "paper", i === 0 && makeLegend(), el("h2", 0, inLanguage(line.label)),
    stopOf(line) <= MOST_CELLS && cells([...tokensOf(line.before), ...own(line)], stretches(line, "reused"), t("reused")),
    el("small", 0, `${t("score_cells")}: ${pair(line.fresh, line.reused, "score_cells")}`)));
}

onChange(() => drawTop());

run({
  steps: lines.length,
  tabs: [{ id: "turns", build: buildTurns }, { id: "memory", build: buildMemory }, { id: "cost", build: buildCost }],
  top,
  bars: () => SIDES.map((side) => lines.map((line) => Number(line[side].score_cells))),
  title: () => t("title", { text: data.title }),
  sentence: () => {
    const line = now();
    const said = t("sentence", {
      step: state.step, last: lines.length, name: line.kind === "turn" ? `${t("turn")} ${line.label[0]}` : inLanguage(line.label),
      cached: whole(line.cached), new: whole(line.new), before: whole(line.fresh.score_cells), after: whole(line.reused.score_cells),
    });
    return line.dropped ? said + (spoken() === "zh" ? "" : " ") + t("sentence_dropped", { dropped: whole(line.dropped) }) : said;
  },
  prints,
  keys: {},
});
