// A grid of cells: a strip of rows above (K or V), queries or outputs beside, scores or probabilities in the middle.
//
// Nodes are kept from step to step, and only what differs is written. One cell is in the tab order; arrows walk from it.

import { HIDDEN, el, write } from "./dom.js";

const STRIP = -1; // the row of keys or values
const BESIDE = -1; // the column of queries or outputs

export class Grid {
  // parts: {strip: "key", beside: "query", body: "scores"}; right: `beside` stands to the right.
  constructor(parts, names, right) {
    Object.assign(this, { parts, right, at: null, shape: null });
    this.head = el("div", { class: "row heads", ...HIDDEN }, el("span", "tick"));
    this.strip = el("div", { role: "row", class: "row strip" }, el("span", { role: "rowheader", class: "tick" }, names.strip));
    this.ghost = el("div", { class: "ghost", ...HIDDEN }, el("span", 0, names.ghost || ""));
    this.rows = [];
    this.node = el("div", { role: "grid", class: right ? "grid right" : "grid", "aria-label": names.grid }, this.head, this.strip, this.ghost);
    this.node.addEventListener("keydown", (event) => this.walk(event));
  }

  // shape: {q0, rows, k0, cols}; kind(part, t, s) -> class; text(part, t, s) -> text; label(position, isRow) -> token.
  update(shape, kind, text, label) {
    this.shape = shape;
    const { q0, rows, k0, cols } = shape;
    this.node.style.setProperty("--from", k0);
    this.ghost.style.setProperty("--rows", q0);
    this.ghost.hidden = q0 === 0;
    this.ghost.classList.toggle("wide", q0 > 2);
    this.ghost.style.setProperty("--cols", cols);
    fit(this.head, cols, 1, () => el("span", "name"));
    fit(this.strip, cols, 1, newCell);
    for (let i = 0; i < cols; i++) {
      paint(this.head.children[1 + i], "name", label(k0 + i));
      paint(this.strip.children[1 + i], kind(this.parts.strip, null, k0 + i), text(this.parts.strip, null, k0 + i));
    }
    while (this.rows.length > rows) this.rows.pop().remove();
    while (this.rows.length < rows) this.rows.push(this.newRow());
    this.rows.forEach((row, i) => this.updateRow(row, q0 + i, kind, text, label));
    this.keepPlace();
  }

  newRow() {
    const row = el("div", { role: "row", class: "row" }, el("span", { role: "rowheader", class: "tick" }), newCell());
    row.children[1].classList.add("beside");
    this.node.append(row);
    return row;
  }

  updateRow(row, t, kind, text, label) {
    const { k0, cols } = this.shape;
    write(row.children[0], label(t, true));
    paint(row.children[1], kind(this.parts.beside, t, null), text(this.parts.beside, t, null));
    fit(row, cols, 2, newCell);
    for (let i = 0; i < cols; i++) {
      paint(row.children[2 + i], kind(this.parts.body, t, k0 + i), text(this.parts.body, t, k0 + i));
    }
  }

  // The cell of row t (null: the strip) and column s (null: the one beside).
  cell(t, s) {
    const { q0, rows, k0, cols } = this.shape;
    if (s !== null && (s < k0 || s >= k0 + cols)) return null;
    if (t === null) return this.strip.children[1 + s - k0];
    if (t < q0 || t >= q0 + rows) return null;
    return this.rows[t - q0].children[s === null ? 1 : 2 + s - k0];
  }

  // {part, t, s} of a cell's element; null for a label.
  find(node) {
    const cell = node.closest("[role=gridcell]");
    if (!cell || !this.node.contains(cell)) return null;
    const { q0, k0 } = this.shape;
    const row = cell.parentNode;
    const column = [...row.children].indexOf(cell);
    if (row === this.strip) return { part: this.parts.strip, t: null, s: k0 + column - 1 };
    const t = q0 + this.rows.indexOf(row);
    return column === 1 ? { part: this.parts.beside, t, s: null } : { part: this.parts.body, t, s: k0 + column - 2 };
  }

  keepPlace() {
    const { q0, rows, k0, cols } = this.shape;
    const at = this.at;
    const kept = at && this.cell(at.t, at.s);
    if (kept && kept === this.focusable) return;
    const moved = kept ? at : { t: q0 + rows - 1, s: k0 + cols - 1 };
    const hadFocus = this.focusable && this.focusable === document.activeElement;
    this.place(moved, hadFocus);
  }

  place(at, focus) {
    if (this.focusable) this.focusable.removeAttribute("tabindex");
    this.at = at;
    this.focusable = this.cell(at.t, at.s);
    this.focusable.tabIndex = 0;
    if (focus) this.focusable.focus();
  }

  walk(event) {
    const { q0, rows, k0, cols } = this.shape;
    const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0], Home: [0, -1e6], End: [0, 1e6] };
    const move = moves[event.key];
    if (!move || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const row = this.at.t === null ? STRIP : this.at.t - q0;
    const column = this.at.s === null ? (this.right ? cols : BESIDE) : this.at.s - k0;
    const nextRow = clamp(row + move[0], STRIP, rows - 1);
    const low = nextRow === STRIP || this.right ? 0 : BESIDE;
    const high = nextRow !== STRIP && this.right ? cols : cols - 1;
    const nextColumn = clamp(column + move[1], low, high);
    const beside = nextColumn === (this.right ? cols : BESIDE);
    this.place({ t: nextRow === STRIP ? null : q0 + nextRow, s: beside ? null : k0 + nextColumn }, true);
  }
}

function newCell() {
  return el("span", { role: "gridcell" });
}

function clamp(x, low, high) {
  return Math.min(high, Math.max(low, x));
}

// `row` gets `count` children after its first `before`. Of many, some are made in advance and hidden: a step then adds
// no node to most rows, and their layout stands.
function fit(row, count, before, make) {
  const room = before + (count > 16 ? Math.ceil(count / 8) * 8 : count);
  while (row.children.length > room) row.lastChild.remove();
  while (row.children.length < room) {
    const node = make();
    node.style.setProperty("--i", row.children.length - before);
    row.append(node);
  }
  for (let i = before + count; i < room; i++) paint(row.children[i], "none", "");
}

// state: "key", or "prob 30": a state and how full the cell is, in percent.
function paint(cell, state, text) {
  if (cell.painted !== state) {
    cell.painted = state;
    const [name, level] = state.split(" ");
    cell.dataset.state = name;
    if (level) cell.style.setProperty("--level", level + "%");
  }
  if (cell.said !== text) {
    cell.said = text;
    cell.textContent = text;
  }
}
