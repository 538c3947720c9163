// The page of `kvsim verify`: the code beside the reference, and what is known of the mistake.

import { HIDDEN, el, scroll, write } from "../dom.js";
import { run } from "../frame.js";
import { state } from "../state.js";
import { data, digits, spoken, t, whole } from "../text.js";

const grid = data.grid;
const last = grid ? grid.queries.length : 1;
const MOST_NAMES = 16;

// What a cell shows: [sign's name, letter, colour of its state, whether it differs].
const SIGNS = { seen: ["#", "calc"], unseen: ["x", "masked"], extra: ["!", "calc"], missing: ["?", "masked"] };

function signOf(side, i, j) {
  const expected = grid.expected[i][j] === "1";
  const got = side === "got" ? grid[side][i][j] === "1" : expected;
  if (got) return expected ? "seen" : "extra";
  return expected ? "missing" : "unseen";
}

function wrongIn(i) {
  return [...grid.keys].filter((_, j) => grid.got[i][j] !== grid.expected[i][j]);
}

function seenIn(side, i) {
  return list(grid.keys.filter((_, j) => grid[side][i][j] === "1"));
}

function list(names) {
  if (!names.length) return t("none");
  const gap = names.some((name) => name.length > 1 || name < "\u2e80") ? " " : "";
  return names.slice(0, MOST_NAMES).join(gap) + (names.length > MOST_NAMES ? "…" : "");
}

function lines(key) {
  const text = t("lines_" + key);
  return text ? text.split("\n") : [];
}

// The headline's beginning: all of it stands in the report.
function brief() {
  const text = data.headline[spoken()];
  return text.length > 600 ? text.slice(0, 600) + "…" : text;
}

function figure(name, value, more) {
  return el("div", "figure", el("span", "figure-name", t(name)), el("p", 0, el("b", 0, value), more && el("span", "of", " " + more)));
}

function number(x) {
  return typeof x === "number" ? digits(x) : x;
}

function top() {
  document.body.classList.toggle("single", last === 1);
  const { numbers, facts } = data;
  const outcome = facts.outcome === "pass" || facts.outcome === "fail" ? facts.outcome : "unfinished";
  const figures = numbers ? [figure("wrong_values", whole(numbers.wrong), t("of", { total: whole(numbers.total) })),
    figure("largest", number(numbers.largest), t("allowed", { value: number(numbers.allowed) })),
    numbers.got === null ? null : figure("first_got", number(numbers.got)),
    numbers.got === null ? null : figure("first_expected", number(numbers.expected))] : [];
  return el("section", "top check many",
    el("div", "text", el("h1", 0, t("outcome_" + outcome)), facts.outcome === "fail" && el("p", "soft", el("b", 0, el("bdi", 0, data.title))), el("p", "soft", brief())),
    el("div", { class: "figures", role: "group", "aria-label": t("tab_check") }, figures));
}

class Matrix {
  constructor(side, look) {
    Object.assign(this, { side, look });
    this.cells = grid.queries.map((_, i) => grid.keys.map((_, j) => this.make(i, j)));
    this.rows = grid.queries.map((name, i) => el("tr", 0, el("th", { scope: "row" }, name), this.cells[i]));
    const heads = grid.keys.map((name) => el("th", { scope: "col" }, grid.keys.length > 24 ? "" : name));
    this.table = el("table", { class: "seen", role: "grid", "aria-label": t("grid_" + side) },
      el("thead", HIDDEN, el("tr", 0, el("td", 0), heads)), el("tbody", 0, this.rows));
    this.table.addEventListener("keydown", (event) => this.walk(event));
    this.node = el("section", { class: "side", "aria-labelledby": "side-" + side }, el("header", 0, el("h2", { id: "side-" + side }, t(side))), this.table);
    this.place(grid.queries.length - 1, 0);
  }

  make(i, j) {
    const name = signOf(this.side, i, j);
    const [letter, fill] = SIGNS[name];
    const wrong = name === "extra" || name === "missing";
    return el("td", { class: wrong ? "wrong" : null, role: "gridcell", "data-state": fill, "data-sign": name,
      onmouseover: () => this.look(this.side, i, j), onfocus: () => this.look(this.side, i, j), onclick: () => this.place(i, j, true) }, letter);
  }

  place(i, j, focus) {
    if (this.at) this.cells[this.at[0]][this.at[1]].removeAttribute("tabindex");
    this.at = [i, j];
    this.cells[i][j].tabIndex = 0;
    if (focus) this.cells[i][j].focus();
  }

  walk(event) {
    const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0], Home: [0, -1e6], End: [0, 1e6] };
    const move = moves[event.key];
    if (!move || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const limit = (x, most) => Math.min(most - 1, Math.max(0, x));
    this.place(limit(this.at[0] + move[0], grid.queries.length), limit(this.at[1] + move[1], grid.keys.length), true);
  }

  update() {
    this.rows.forEach((row, i) => {
      if (i === state.step - 1) row.setAttribute("aria-current", "true");
      else row.removeAttribute("aria-current");
    });
  }
}

function legend() {
  return el("ul", "legend", Object.entries(SIGNS).map(([name, [letter, fill]]) => el("li", 0,
    el("span", { class: name === "extra" || name === "missing" ? "swatch wrong" : "swatch", "data-state": fill, ...HIDDEN }, letter), t("sign_" + name))));
}

function buildCheck(root) {
  let update = () => {};
  if (grid) {
    const looked = el("p", { class: "looked", role: "group", "aria-label": t("inspector") }, t("rows_are"));
    const look = (side, i, j) => write(looked, t("cell_" + signOf(side, i, j), { q: grid.queries[i], s: grid.keys[j] }));
    const sides = ["got", "expected"].map((side) => new Matrix(side, look));
    root.append(el("div", "bar", el("h2", 0, t("who")), legend()),
      el("div", grid.keys.length > 24 ? "pairs many" : "pairs", sides.map((side) => side.node)), looked);
    for (const line of lines("below")) root.append(el("p", "soft", line));
    if (grid.skipped) root.append(el("p", "soft", t("skipped", { n: whole(grid.skipped) })));
    update = () => sides.forEach((side) => side.update());
  }
  root.append(makeFound());
  return update;
}

function makeFound() {
  return el("div", "found", ["where", "why", "feeds", "command"].filter((name) => lines(name).length).map((name) =>
    el("section", 0, el("h2", 0, t(name)), lines(name).map((line) => el("p", 0, name === "command" ? el("code", 0, line) : line)))));
}

function buildReport(root) {
  root.append(scroll(t("report_name"), el("pre", "report", t("report") || data.headline[spoken()])));
  return () => {};
}

function firstWrong() {
  const at = grid ? grid.queries.findIndex((_, i) => wrongIn(i).length) : 0;
  return Math.max(0, at) + 1;
}

run({
  steps: last,
  first: firstWrong(),
  tabs: [...(grid || lines("why").length ? [{ id: "check", build: buildCheck }] : []), { id: "report", build: buildReport }],
  top,
  bars: () => [grid ? grid.queries.map((_, i) => wrongIn(i).length) : [0], []],
  title: () => t("title", { target: data.title }),
  sentence: () => grid ? t("sentence", {
    q: grid.queries[state.step - 1], step: state.step, last, got: seenIn("got", state.step - 1),
    expected: seenIn("expected", state.step - 1), wrong: list(wrongIn(state.step - 1)),
  }) : brief().split("\n")[0],
  prints: () => [grid && el("div", "pairs", ["got", "expected"].map((side) => new Matrix(side, () => {}).table)), makeFound()],
  keys: {},
});
