// What one cell holds: token, position, shape, value, how the value came about, and the step that made it.

import { HIDDEN, el, put, svg } from "./dom.js";
import { RUNS, fullLabel, isMasked, label, madeAt, reader, shapeOf, stops, vector, widthOf } from "./run.js";
import { go, state } from "./state.js";
import { showMade } from "./transport.js";
import { data, digits, t, whole } from "./text.js";

const MOST_TERMS = 64;
const SIGNS = { query: "Q", key: "K", value: "V", context: "O" };

export class Inspector {
  constructor() {
    this.at = null;
    this.onLook = () => {};
    this.title = el("h3", 0);
    this.body = el("div", "told");
    this.node = el("section", { class: "inspector", "aria-label": t("inspector") }, this.title, this.body);
  }

  look(found, fixed) {
    const { run, part, t: q, s, cell } = found;
    this.at = { run, part, q, s };
    this.show();
    if (fixed) cell.setAttribute("aria-label", `${this.title.textContent} ${this.summary}`);
  }

  // After a step: the same cell if it is still there, else the newest score of the cached run.
  update() {
    const { run, part, q, s } = this.at || {};
    const shape = this.at && shapeOf(run, state.step, state.layer);
    const inRows = shape && (q === null || (q >= shape.q0 && q < shape.q0 + shape.rows));
    const inColumns = shape && (s === null || (s >= shape.k0 && s < shape.k0 + shape.cols));
    if (!inRows || !inColumns) {
      const last = stops[state.step - 1] - 1;
      this.at = { run: RUNS[1], part: "scores", q: last, s: last };
    }
    this.show();
  }

  show() {
    const { run, part, q, s } = this.at;
    const { step, layer, head } = state;
    const shape = shapeOf(run, step, layer);
    const cached = (part === "key" || part === "value") && s < shape.q0;
    const name = (position) => (position === null ? "" : `${label(position)}`);
    put(this.title, el("span", { class: "chip", "data-state": chip(part, cached, layer, q, s), ...HIDDEN }, sign(part)),
      t("cell_" + part, { q: name(q), s: name(s) }));
    const facts = [t(run), t("in_layer", { layer, head })];
    if (q !== null) facts.push(t("query_at", { position: q + 1 }));
    if (s !== null) facts.push(t("key_at", { position: s + 1 }));
    this.summary = "";
    const rows = part === "scores" ? this.score(q, s) : part === "probs" ? this.prob(q, s) : part === "context" ? this.context(q) : this.row(part, q === null ? s : q, cached);
    put(this.body, el("p", "soft facts", facts.map((fact) => el("span", 0, fact))), rows, longTokens(q, s));
    showMade(cached ? madeAt(s) : 0);
    this.onLook(links(part, q, s));
  }

  read(place) {
    return reader(state.step, this.at.run, state.layer, state.head, place);
  }

  vector(place, position) {
    return vector(state.step, this.at.run, state.layer, state.head, place, position);
  }

  score(q, s) {
    const { layer } = state;
    const masked = isMasked(layer, q, s);
    const why = masked ? el("p", "verdict", t(s > q ? "masked_later" : "masked_window")) : null;
    if (!data.values) return [why];
    const a = this.vector("query", q);
    const b = this.vector("key", s);
    const value = this.read("scores")(q, s);
    this.summary = digits(value);
    return [why, formula(el("b", 0, digits(value)), " = ", digits(data.values.scale[layer]), " × ", dot(a, b)),
      picture([["Q", a], ["K", b]]), el("p", "soft", t("rounded"))];
  }

  prob(q, s) {
    const { layer } = state;
    if (isMasked(layer, q, s)) return [el("p", "verdict", t("zero"))];
    if (!data.values) return [];
    const value = this.read("probs")(q, s);
    this.summary = digits(value);
    const score = this.read("scores");
    const { k0, cols } = shapeOf(this.at.run, state.step, layer);
    const seen = Array.from({ length: cols }, (_, i) => k0 + i).filter((key) => !isMasked(layer, q, key));
    const plain = data.values.plain[layer]
      ? formula(el("b", 0, digits(value)), " = ", power(score(q, s)), " / (", seen.map((key, i) => [i ? " + " : "", power(score(q, key))]), ")")
      : formula(el("b", 0, digits(value)), " = softmax(…)");
    return [plain, el("p", "soft", t("prob_says", { share: percent(value), q: label(q), s: label(s) }))];
  }

  context(q) {
    if (!data.values) return [];
    const { layer } = state;
    const probs = this.read("probs");
    const { k0, cols } = shapeOf(this.at.run, state.step, layer);
    const seen = Array.from({ length: cols }, (_, i) => k0 + i).filter((key) => !isMasked(layer, q, key));
    const x = this.vector("context", q);
    this.summary = t("elements", { n: x.length });
    return [formula("O = ", seen.flatMap((key, i) => [i ? " + " : "", digits(probs(q, key)), " × V", el("sub", 0, label(key))])), picture([["O", x]]), list(x)];
  }

  row(part, position, cached) {
    const { layer } = state;
    const made = madeAt(position);
    const origin = cached
      ? el("p", "verdict", t("from_cache") + " ", el("a", { href: "#step=" + made, onclick: (event) => { event.preventDefault(); go({ step: made }); } }, t("made_at", { step: made })))
      : el("p", "soft", t("computed_now"));
    if (!data.values) return [origin];
    const x = this.vector(part, position);
    this.summary = t("elements", { n: x.length });
    const heads = data.values.first[layer][part].shape[0];
    return [origin, el("p", "soft", t("shape", { shape: `[${heads}, ${shapeRows(this.at.run, part)}, ${widthOf(layer, part)}]`, bytes: whole(x.length * data.item_bytes) })),
      picture([[SIGNS[part], x]]), list(x)];
  }
}

function shapeRows(run, part) {
  const { rows, cols } = shapeOf(run, state.step, state.layer);
  return part === "query" ? rows : cols;
}

function chip(part, cached, layer, q, s) {
  if (cached) return "cached";
  if (part === "scores") return isMasked(layer, q, s) ? "masked" : "calc";
  return part === "key" || part === "value" ? part : "calc";
}

function sign(part) {
  return SIGNS[part] || (part === "scores" ? "QK" : "P");
}

// The cells that a cell is made of, or that are made of it.
function links(part, q, s) {
  if (part === "scores" || part === "probs") return [["query", q, null], ["key", null, s], ["scores", q, s], ["probs", q, s], ["value", null, s], ["context", q, null]];
  return [[part, q, s]];
}

function longTokens(q, s) {
  const found = [...new Set([q, s])].filter((position) => position !== null && data.long[position]);
  return found.map((position) => el("p", "long", el("bdi", 0, fullLabel(position))));
}

function formula(...parts) {
  return el("p", "formula", parts);
}

function signed(x) {
  const text = digits(x);
  return text.startsWith("−") ? `(${text})` : text;
}

function dot(a, b) {
  const terms = a.slice(0, MOST_TERMS).map((x, i) => [i ? " + " : "", el("span", "term", `${signed(x)}·${signed(b[i])}`)]);
  return ["(", terms, a.length > MOST_TERMS ? " + …" : "", ")"];
}

function power(x) {
  return el("span", "term", "e", el("sup", 0, digits(x)));
}

function percent(x) {
  return Number((100 * x).toPrecision(3)) + "%";
}

function list(x) {
  return el("p", "formula", "[" + x.map(digits).join(", ") + "]");
}

// Vectors as bars around a line, one row each, all on one scale.
function picture(vectors) {
  const top = Math.max(...vectors.flatMap(([, x]) => x.map(Math.abs)), 1e-30);
  const n = vectors[0][1].length;
  const rows = vectors.map(([name, x], row) => [
    svg("line", { x1: 0, x2: n, y1: 2 * row + 1, y2: 2 * row + 1, class: "zero" }),
    x.map((value, i) => svg("rect", { "data-of": name, x: i + 0.15, width: 0.7, y: value > 0 ? 2 * row + 1 - 0.9 * (value / top) : 2 * row + 1, height: Math.abs(0.9 * (value / top)) })),
  ]);
  return el("div", { class: "vectors", ...HIDDEN },
    el("div", "names", vectors.map(([name]) => el("span", 0, name))),
    svg("svg", { viewBox: `0 0 ${n} ${2 * vectors.length}`, preserveAspectRatio: "none", class: "rows" + vectors.length }, rows));
}
