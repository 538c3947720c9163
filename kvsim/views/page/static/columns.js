// The stage of several caches: one column each, its rows after every step so far, and the KL of each position below.

import { HIDDEN, add, el, put, scroll, svg, write } from "./dom.js";
import { Grid } from "./grid.js";
import { CELLS, before, chosen, countRows, fateIn, fatesOf, lastStop, runs, stepOf, tokenAt, topDivergence, wholeToken } from "./policies.js";
import { go, state } from "./state.js";
import { data, digits, t, whole } from "./text.js";

const MOST_CELLS = 12000; // of all grids at the last step; beyond them rows are drawn as areas
const drawn = lastStop <= 64 && lastStop * data.stops.length * runs.length <= MOST_CELLS;

export function buildColumns(root) {
  const columns = runs.map((run) => new Column(run));
  const told = new Told(columns[0]);
  const stage = el("div", "stage policies", columns.map((column) => column.node));
  add(root,
    el("div", "bar", choose("layer", data.model.layers), choose("head", headCount()), makeLegend()),
    runs.length ? el("p", "kl-note soft", t("kl_legend")) : el("p", "left-out", t("nothing")),
    stage, drawn && runs.some((run) => !run.left_out) ? told.node : null, makeSummary());
  const look = (event, fixed) => {
    for (const column of columns) {
      const found = column.find(event.target);
      if (found) told.look(found, fixed);
    }
  };
  stage.addEventListener("mouseover", (event) => look(event, false));
  stage.addEventListener("focusin", (event) => look(event, true));
  stage.addEventListener("mousedown", (event) => {
    for (const column of columns) column.focus(event);
  });
  stage.style.setProperty("--total", lastStop);
  watch(stage, columns);
  return () => {
    for (const column of columns) column.update();
    told.update();
    for (const name of ["layer", "head"]) root.querySelector(`select[name=${name}]`).value = state[name];
  };
}

export function makeLegend() {
  return el("ul", "legend", Object.entries(CELLS).map(([name, letter]) => el("li", 0, el("span", { class: "swatch", "data-state": name, ...HIDDEN }, letter), t("state_" + name))));
}

export function headCount() {
  return Math.max(1, ...runs.map((run) => (run.fate_of[0] || []).length));
}

function choose(name, count) {
  const options = Array.from({ length: count }, (_, i) => el("option", { value: i, selected: i === state[name] }, i));
  return el("label", "picker", el("span", 0, t(name)), el("select", { name, onchange: (event) => go({ [name]: event.target.value }) }, options));
}

function watch(stage, columns) {
  const fit = () => {
    const room = Math.min(...columns.map((column) => column.body.clientWidth)) || 300;
    const size = Math.max(5, Math.min(30, Math.floor((room - 44 - 12) / (lastStop + 1))));
    stage.style.setProperty("--c", size + "px");
    stage.style.setProperty("--label", "38px");
    stage.dataset.size = size < 12 ? "tiny" : "large";
    for (const column of columns) column.resize(size);
  };
  new ResizeObserver(fit).observe(stage);
  fit();
}

class Column {
  constructor(run) {
    this.run = run;
    this.size = el("b", 0);
    this.note = el("p", "soft");
    this.choice = el("p", "choice");
    this.body = el("div", "body");
    this.letters = true;
    this.bars = svg("svg", { class: "kls", viewBox: `0 0 ${lastStop} 1`, preserveAspectRatio: "none", role: "img", "aria-label": t("kl_bars", { cache: run.cache, most: digits(Math.max(...run.rows.divergence)) }) });
    if (run.left_out) this.body.append(el("p", "left-out", t(run.left_out === "rows" ? "too_many" : "untold")));
    else if (drawn) {
      this.grid = new Grid({ strip: "now", beside: "count", body: "row" }, { grid: t("grid", { cache: run.cache }), strip: t("now") }, false);
      this.body.append(this.grid.node);
    } else {
      this.area = el("figure", { class: "area", role: "img" });
      this.body.append(this.area);
    }
    this.body.append(el("div", drawn ? "kl aligned" : "kl", el("span", { class: "tick", ...HIDDEN }, "KL"), this.bars));
    this.node = el("section", { class: "side", "aria-label": run.cache },
      el("header", 0, el("h2", 0, run.cache), el("p", "size", this.size)),
      this.note, this.body, this.choice);
  }

  resize(size) {
    const letters = size >= 12;
    if (this.letters === letters) return;
    this.letters = letters;
    if (this.fates) this.update();
  }

  update() {
    const { run } = this;
    const { step } = state;
    const all = data.stops[step - 1];
    const fates = (this.fates = fatesOf(run));
    write(this.note, [t(run.lossless ? "lossless" : "lossy"), t("holds", { held: whole(run.steps.logical_bytes[step - 1]), allocated: whole(run.steps.allocated_bytes[step - 1]), metadata: whole(run.steps.metadata_bytes[step - 1]) })].join(" · "));
    write(this.choice, say(run, step));
    drawBars(this.bars, run, step);
    if (!fates) return;
    write(this.size, t("rows_of", { rows: whole(countRows(fates, step).held), all: whole(all) }));
    if (!this.grid) return this.drawArea(fates, step);
    const kind = (part, row, s) => (part === "count" ? "context" : fateIn(fates, part === "now" ? step : row + 1, s));
    const text = (part, row, s) => {
      if (part === "count") return String(countRows(fates, row + 1).held);
      return this.letters ? CELLS[kind(part, row, s)] || "" : "";
    };
    this.grid.update({ q0: 0, rows: step, k0: 0, cols: all }, kind, text, (i, isRow) => (isRow ? String(i + 1) : tokenAt(i)));
    this.body.style.minHeight = `calc(var(--c) * ${Math.min(data.stops.length, 20) + 2} + 70px)`;
  }

  // Each row from the step that fed it to the one that evicted it, up to the present step.
  drawArea(fates, step) {
    const steps = data.stops.length;
    const bars = { cached: "", masked: "" };
    for (let i = 0; i < data.stops[step - 1]; i++) {
      const from = stepOf(i) - 1;
      const left = fates[i];
      const to = left && left <= step ? left - 1 : step;
      bars.cached += `M${i} ${from}h1V${to}h-1z`;
      if (left && left <= step) bars.masked += `M${i} ${left - 1}h1v1h-1z`;
    }
    const { held, evicted } = countRows(fates, step);
    const text = t("area", { kept: whole(held), evicted: whole(evicted) });
    this.area.setAttribute("aria-label", text);
    put(this.area, svg("svg", { viewBox: `0 0 ${lastStop} ${steps}`, preserveAspectRatio: "none", ...HIDDEN },
      svg("rect", { class: "here", x: 0, width: lastStop, y: step - 1, height: Math.max(1, steps / 200) }),
      svg("path", { "data-fill": "cached", d: bars.cached }), svg("path", { "data-fill": "masked", d: bars.masked })),
    el("figcaption", "soft", text));
  }

  find(node) {
    const found = this.grid && this.grid.find(node);
    return found && { ...found, column: this, cell: node.closest("[role=gridcell]") };
  }

  focus(event) {
    const found = this.find(event.target);
    if (!found) return;
    event.preventDefault();
    this.grid.place({ t: found.t, s: found.s }, true);
  }
}

// What a cache would choose after the step's last token.
export function say(run, step) {
  const last = data.stops[step - 1] - 1;
  return t(run.rows.same[last] ? "chooses_same" : "chooses_other", { token: chosen(run, last) });
}

// Hollow bars: the reference's choice; filled ones: another.
function drawBars(root, run, step) {
  const bars = { same: "", other: "" };
  for (let i = 0; i < data.stops[step - 1]; i++) {
    const height = Math.min(1, Math.max(0.02, 1 + Math.log10(run.rows.divergence[i] / topDivergence) / 4)); // four decades
    bars[run.rows.same[i] ? "same" : "other"] += `M${i + 0.12} 1v${-height.toFixed(4)}h.76V1z`;
  }
  const from = before(step);
  put(root, svg("rect", { class: "here", x: from, y: 0, height: 1, width: data.stops[step - 1] - from }),
    svg("path", { class: "same", d: bars.same }), svg("path", { class: "other", d: bars.other }));
}

class Told {
  constructor(column) {
    this.at = null;
    this.first = column;
    this.title = el("h3", 0);
    this.body = el("div", "told");
    this.node = el("section", { class: "inspector small", "aria-label": t("inspector") }, this.title, this.body);
  }

  look(found, fixed) {
    this.at = found;
    this.update();
    if (fixed) found.cell.setAttribute("aria-label", `${this.title.textContent} ${this.body.textContent}`);
  }

  update() {
    if (!this.first || !this.first.grid) return;
    const last = data.stops[state.step - 1] - 1;
    const gone = !this.at || this.at.t >= state.step || this.at.s > last;
    const { column, part, t: row, s } = gone ? { column: this.first, part: "now", t: null, s: last } : this.at;
    const { run, fates } = column;
    const step = part === "now" ? state.step : row + 1;
    const facts = [t("in_layer", { layer: state.layer, head: state.head }), t("after_step", { step })];
    if (part === "count") {
      put(this.title, t("cell_count", { cache: run.cache, step }));
      put(this.body, lines(facts), el("p", "verdict", t("count", { rows: whole(countRows(fates, step).held), all: whole(data.stops[step - 1]) })));
      return;
    }
    const name = fateIn(fates, step, s);
    facts.push(t("at_position", { position: s }));
    put(this.title, el("span", { class: "chip", "data-state": name, ...HIDDEN }, CELLS[name] || ""), t("cell", { token: tokenAt(s), cache: run.cache }));
    put(this.body, lines(facts),
      el("p", "verdict", t("state_" + name) + " · ", link("fed_at", stepOf(s)), " · ", fates[s] ? link("left_at", fates[s]) : t("to_the_end")),
      el("p", "soft", t("divergence_at", { divergence: digits(run.rows.divergence[s]) })),
      data.long[s] && el("p", "long", el("bdi", 0, wholeToken(s))));
  }
}

function lines(facts) {
  return el("p", "soft facts", facts.map((fact) => el("span", 0, fact)));
}

function link(key, step) {
  return el("a", { href: "#step=" + step, onclick: (event) => { event.preventDefault(); go({ step }); } }, t(key, { step }));
}

// The table of the terminal.
function makeSummary() {
  const names = ["held", "allocated", "metadata", "macs", "diff", "mean_kl", "largest_kl", "same_choice", "new_choice", "first_change"];
  const costs = (run) => [run.logical_bytes, run.allocated_bytes, run.metadata_bytes, run.counts.macs].map(whole);
  const close = (run) => [digits(run.all.max_abs_diff), digits(run.all.mean_divergence), digits(run.all.largest_divergence),
    `${whole(run.all.same_choices)}/${whole(run.all.positions)}`, `${whole(run.new.same_choices)}/${whole(run.new.positions)}`, run.first_change === null ? "-" : whole(run.first_change)];
  const row = (name, cells) => el("tr", 0, el("th", { scope: "row" }, name), cells.map((cell) => el("td", 0, cell)));
  return el("div", "summary", scroll(t("summary"), el("table", "policies-table", el("caption", 0, t("summary")),
    el("thead", 0, el("tr", 0, el("th", { scope: "col", class: "text" }, t("cache")), names.map((name) => el("th", { scope: "col" }, t(name))))),
    el("tbody", 0, row(`${data.reference.cache} (${t("reference")})`, [...costs(data.reference), ...Array(6).fill("")]),
      runs.map((run) => row(run.cache, [...costs(run), ...close(run)]))))));
}
