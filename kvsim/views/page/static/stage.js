// The stage: one step without a cache and with it, cell by cell.

import { drawAreas } from "./area.js";
import { HIDDEN, add, el, put, write } from "./dom.js";
import { Grid } from "./grid.js";
import { Inspector } from "./inspect.js";
import { RUNS, isMasked, label, reader, shapeOf, stops, total } from "./run.js";
import { go, state } from "./state.js";
import { makeStrip } from "./strip.js";
import { data, t, whole } from "./text.js";

const MOST_CELLS = 64; // tokens drawn cell by cell; more are drawn as areas

export function buildStage(root) {
  const sides = RUNS.map((run) => new Side(run));
  const inspector = new Inspector();
  const strip = makeStrip();
  const stage = el("div", "stage", sides.map((side) => side.node));
  const keys = ["cached", "key", "value", "masked", "calc"];
  add(root,
    el("div", "bar", picker("layer", data.model.layers), picker("head", data.model.heads),
      el("ul", "legend", keys.map((name) => el("li", 0, el("span", { class: "swatch", "data-state": name, ...HIDDEN }, LETTERS[name]), t("state_" + name))))),
    data.values ? null : el("p", "left-out", t("left_out_" + data.left_out)),
    stage, sides[0].drawn && inspector.node, strip.node);
  const look = (event, fixed) => {
    for (const side of sides) {
      const found = side.find(event.target);
      if (found) inspector.look(found, fixed);
    }
  };
  stage.addEventListener("mouseover", (event) => look(event, false));
  stage.addEventListener("focusin", (event) => look(event, true));
  stage.addEventListener("mousedown", (event) => {
    for (const side of sides) side.focus(event);
  });
  inspector.onLook = (links) => {
    for (const side of sides) side.highlight(links);
  };
  stage.style.setProperty("--total", total);
  watchWidth(stage, sides);
  return () => {
    for (const side of sides) side.update();
    inspector.update(sides[1]);
    strip.update();
    for (const name of ["layer", "head"]) root.querySelector(`select[name=${name}]`).value = state[name];
  };
}

export const LETTERS = { cached: "c", key: "K", value: "V", masked: "x", calc: "#" };

function picker(name, count) {
  const options = Array.from({ length: count }, (_, i) => el("option", { value: i, selected: i === state[name] }, i));
  return el("label", "picker", el("span", 0, t(name)), el("select", { name, onchange: (event) => go({ [name]: event.target.value }) }, options));
}

// Cells as large as the narrower of both columns lets them be; the two squares of a run side by side where they fit.
function watchWidth(stage, sides) {
  const name = labelWidth();
  const fit = () => {
    const room = Math.min(...sides.map((side) => side.body.clientWidth)) || 300;
    const label = Math.min(name, room / 5);
    const cell = (count) => Math.min(40, Math.floor(((room - (count - 1) * 54) / count - label - 12) / (total + 1)));
    const besides = cell(2) >= 22;
    const size = Math.max(5, besides ? cell(2) : cell(1));
    stage.style.setProperty("--c", size + "px");
    stage.style.setProperty("--label", label + "px");
    stage.classList.toggle("besides", besides);
    stage.dataset.size = size < 12 ? "tiny" : "large";
    for (const side of sides) side.resize(size);
  };
  new ResizeObserver(fit).observe(stage);
  fit();
}

// Pixels for the widest token's name.
function labelWidth() {
  const widths = data.tokens.map((token) => [...token].reduce((sum, c) => sum + (c > "\u2e80" ? 15 : 9), 10));
  return Math.min(96, Math.max(26, ...widths));
}

class Side {
  constructor(run) {
    this.run = run;
    this.drawn = total <= MOST_CELLS;
    this.size = el("b", 0);
    this.note = el("p", "soft");
    this.body = el("div", "body");
    this.letters = true;
    if (this.drawn) {
      this.scores = new Grid({ strip: "key", beside: "query", body: "scores" },
        { grid: t("grid_scores", { run: t(run) }), strip: "K", ghost: t("ghost") }, false);
      this.probs = new Grid({ strip: "value", beside: "context", body: "probs" },
        { grid: t("grid_probs", { run: t(run) }), strip: "V" }, true);
      this.body.append(
        el("figure", "panel", el("figcaption", 0, el("span", 0, "Q · Kᵀ"), el("span", "soft", t("scores"))), this.scores.node),
        el("div", { class: "arrow", ...HIDDEN }, "softmax", el("i", 0, "→")),
        el("figure", "panel", el("figcaption", 0, el("span", 0, "softmax · V"), el("span", "soft", t("probs"))), this.probs.node));
    } else {
      this.area = el("figure", { class: "area", role: "img" });
      this.body.append(this.area);
    }
    this.node = el("section", { class: "side " + run, "aria-labelledby": "side-" + run },
      el("header", 0, el("h2", { id: "side-" + run }, t(run)), el("p", "size", this.size)), this.note, this.body);
  }

  get grids() {
    return this.drawn ? [this.scores, this.probs] : [];
  }

  resize(size) {
    const letters = size >= 12;
    const numbers = size >= 22 && data.values !== null;
    if (this.letters === letters && this.numbers === numbers) return;
    Object.assign(this, { letters, numbers });
    if (this.shape) this.update();
  }

  update() {
    const { run } = this;
    const { step, layer, head } = state;
    const shape = (this.shape = shapeOf(run, step, layer));
    const { rows, cols } = shape;
    write(this.size, `${whole(rows)} × ${whole(cols)} = ${whole(data.counts[run].score_cells[step - 1])}`);
    write(this.note, t(run === "no_cache" ? "note_no_cache" : step === 1 ? "note_first" : "note_cached",
      { rows: whole(rows), all: whole(stops[step - 1]), kept: whole(shape.q0 - shape.k0), new: whole(data.feed[step - 1]) }));
    if (!this.drawn) return this.drawArea(shape);
    const scores = this.numbers && reader(step, run, layer, head, "scores");
    const probs = data.values && reader(step, run, layer, head, "probs");
    const kind = (part, q, s) => {
      if (part === "key" || part === "value") return s < shape.q0 ? "cached" : part;
      if (part === "scores") return isMasked(layer, q, s) ? "masked" : "calc";
      if (part !== "probs") return part;
      if (isMasked(layer, q, s)) return "zero";
      return probs ? "prob " + Math.round(probs(q, s) * 100) : "calc";
    };
    const text = (part, q, s) => {
      if (!this.letters) return "";
      if (part === "key" || part === "value") return s < shape.q0 ? "c" : part === "key" ? "K" : "V";
      if (part === "query") return "Q";
      if (part === "context") return "O";
      if (isMasked(layer, q, s)) return part === "scores" ? "x" : "0";
      if (part === "scores") return scores ? short(scores(q, s)) : "#";
      return this.numbers && probs ? fraction(probs(q, s)) : "#";
    };
    this.scores.update(shape, kind, text, label);
    this.probs.update(shape, kind, text, label);
  }

  drawArea({ q0, k0 }) {
    const counts = data.counts[this.run];
    const cells = counts.score_cells[state.step - 1];
    const useful = counts.useful_cells[state.step - 1];
    const text = t("area", { cells: whole(cells), masked: whole(BigInt(cells) - BigInt(useful)), cached: whole(Math.max(0, q0 - k0)) });
    this.area.setAttribute("aria-label", text);
    put(this.area, drawAreas(this.run, state.step, state.layer), el("figcaption", "soft", text));
  }

  find(node) {
    for (const grid of this.grids) {
      const found = grid.find(node);
      if (found) return { ...found, run: this.run, grid, cell: node.closest("[role=gridcell]") };
    }
    return null;
  }

  focus(event) {
    const found = this.find(event.target);
    if (!found) return;
    event.preventDefault();
    found.grid.place({ t: found.t, s: found.s }, true);
  }

  highlight(links) {
    for (const cell of this.lit || []) cell.classList.remove("lit");
    this.lit = [];
    for (const [part, q, s] of links) {
      for (const grid of this.grids) {
        if (!Object.values(grid.parts).includes(part)) continue;
        const cell = grid.cell(q, s);
        if (cell) this.lit.push(cell);
      }
    }
    for (const cell of this.lit) cell.classList.add("lit");
  }
}

function short(x) {
  const text = x.toFixed(1);
  return (text === "-0.0" ? "0.0" : text).replace("-", "−");
}

function fraction(x) {
  return x >= 0.995 ? "1" : x.toFixed(2).slice(1);
}
