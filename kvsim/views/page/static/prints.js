// Small multiples of steps, for paper: each run's scores, keys and values as areas of cells.

import { drawAreas } from "./area.js";
import { HIDDEN, el, svg } from "./dom.js";
import { LETTERS } from "./stage.js";
import { RUNS, label, shapeOf, total, windowOf } from "./run.js";
import { state } from "./state.js";
import { data, t, whole } from "./text.js";

const MOST = 48; // steps on paper; of more, every so many

export function makePrints() {
  const steps = data.feed.length;
  const every = Math.ceil(steps / MOST);
  const shown = Array.from({ length: steps }, (_, i) => i + 1).filter((step) => step === steps || (step - 1) % every === 0);
  return [el("h2", 0, t("all_steps")),
    el("div", "multiples", shown.map((step) => el("figure", 0, el("figcaption", 0, t("print_step", { step, fed: fed(step), next: data.next[step - 1] })),
      el("div", 0, RUNS.map((run) => el("div", 0, picture(run, step), el("small", 0, size(run, step)))))))),
    el("ul", "legend", Object.entries(LETTERS).map(([name, letter]) => el("li", 0, el("span", { class: "swatch", "data-state": name }, letter), t("state_" + name))))];
}

function fed(step) {
  const { q0, rows } = shapeOf("cached", step, 0);
  return Array.from({ length: Math.min(rows, 8) }, (_, i) => label(q0 + i)).join("");
}

function size(run, step) {
  const { rows, cols } = shapeOf(run, step, 0);
  return `${t(run + "_short")} ${whole(rows)}×${whole(cols)} = ${whole(data.counts[run].score_cells[step - 1])}`;
}

// Runs of equal cells as one rectangle each; of many tokens, areas.
function picture(run, step) {
  if (total > 64) return drawAreas(run, step, state.layer);
  const { q0, rows, k0, cols } = shapeOf(run, step, state.layer);
  const end = k0 + cols;
  const window = windowOf(state.layer) || total;
  const shapes = [];
  const span = (name, from, to, y) => {
    if (to <= from) return;
    shapes.push(svg("rect", { "data-fill": name, x: from, y, width: to - from, height: 1 }));
    for (let x = from; x < to && total <= 16; x++) shapes.push(svg("text", { x: x + 0.5, y: y + 0.7 }, LETTERS[name]));
  };
  for (const [name, y] of [["key", 0], ["value", 1]]) {
    span("cached", k0, q0, y);
    span(name, Math.max(k0, q0), end, y);
  }
  for (let q = q0; q < q0 + rows; q++) {
    const seen = Math.max(k0, q - window + 1);
    span("masked", k0, seen, q + 2.5);
    span("calc", seen, q + 1, q + 2.5);
    span("masked", q + 1, end, q + 2.5);
  }
  const lines = total <= 32 && svg("path", { class: "lines", d: gridLines(q0, rows, k0, cols) });
  return svg("svg", { viewBox: `-0.1 -0.1 ${total + 0.2} ${total + 2.7}`, ...HIDDEN }, shapes, lines);
}

function gridLines(q0, rows, k0, cols) {
  let d = "";
  for (let i = 0; i <= cols; i++) d += `M${k0 + i} 0v2M${k0 + i} ${q0 + 2.5}v${rows}`;
  for (let i = 0; i <= rows; i++) d += `M${k0} ${q0 + 2.5 + i}h${cols}`;
  return d + `M${k0} 0h${cols}M${k0} 1h${cols}M${k0} 2h${cols}`;
}
