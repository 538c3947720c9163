// The cost strip: what this step costs and all steps so far, in both runs; and the table of all steps.

import { el, put, scroll, write } from "./dom.js";
import { RUNS, label, shapeOf, stops } from "./run.js";
import { go, state } from "./state.js";
import { data, sizeOf, sums, t, whole } from "./text.js";

const ROWS = ["score_cells", "projected_rows", "macs", "kv_bytes"];
const MOST_ROWS = 32;

export function makeStrip() {
  const so_far = Object.fromEntries(RUNS.map((run) => [run, Object.fromEntries(ROWS.slice(0, 3).map((name) => [name, sums(data.counts[run][name])]))]));
  const cells = {};
  const cell = (name, run, when) => (cells[[name, run, when]] = el("td", 0));
  const rows = ROWS.map((name) => el("tr", 0, el("th", { scope: "row" }, t(name)),
    ["step", "far"].flatMap((when) => RUNS.map((run) => cell(name, run, when)))));
  const strip = el("table", "strip",
    el("caption", 0, t("cost_of_step")),
    el("thead", 0,
      el("tr", 0, el("td", { rowspan: 2 }), el("th", { colspan: 2, scope: "colgroup" }, t("this_step")), el("th", { colspan: 2, scope: "colgroup" }, t("so_far"))),
      el("tr", 0, [0, 1].flatMap(() => RUNS.map((run) => el("th", { scope: "col" }, t(run + "_short")))))),
    el("tbody", 0, rows));
  const table = makeTable();
  return {
    node: el("div", "costs", scroll(t("cost_of_step"), strip), table.node),
    update: () => {
      for (const run of RUNS) {
        for (const name of ROWS) {
          const x = data.counts[run][name][state.step - 1];
          write(cells[[name, run, "step"]], name === "kv_bytes" ? sizeOf(x) : whole(x));
          write(cells[[name, run, "far"]], name === "kv_bytes" ? "" : whole(so_far[run][name][state.step - 1]));
        }
      }
      table.update();
    },
  };
}

// Every step as a row; of many steps those around the present one.
function makeTable() {
  const steps = data.feed.length;
  const body = el("tbody", 0);
  let drawn = "";
  const totals = data.totals;
  const number = (run) => whole(totals[run].score_cells);
  const table = el("table", "steps all",
    el("caption", 0, t("all_steps")),
    el("thead", 0, el("tr", 0, ["step", "sequence", "next_token"].map((name) => el("th", { scope: "col" }, t(name))),
      el("th", { scope: "col" }, t("no_cache_column")), el("th", { scope: "col" }, t("cached_column")), el("th", { scope: "col" }, t("saved")), el("th", { scope: "col" }, t("rows_column")))),
    body,
    el("tfoot", 0, el("tr", 0, el("th", { scope: "row" }, t("total")), el("td", 0), el("td", 0),
      el("td", "total-no_cache", number("no_cache")), el("td", "total-cached", number("cached")), el("td", 0, data.saved.at(-1)),
      el("td", 0, `${whole(totals.no_cache.projected_rows)} / ${whole(totals.cached.projected_rows)}`))));
  const row = (step) => {
    const shape = (run) => {
      const { rows, cols } = shapeOf(run, step, 0);
      return `${whole(rows)}×${whole(cols)} = ${whole(data.counts[run].score_cells[step - 1])}`;
    };
    const pick = (event) => { event.preventDefault(); go({ step }); };
    return el("tr", { "data-step": step, onclick: () => go({ step }) },
      el("td", 0, el("a", { href: "#step=" + step, onclick: pick }, step)), el("td", "text", el("bdi", 0, sequence(step))), el("td", "text", el("bdi", 0, data.next[step - 1])),
      el("td", 0, shape("no_cache")), el("td", 0, shape("cached")), el("td", 0, data.saved[step - 1]),
      el("td", 0, RUNS.map((run) => whole(data.counts[run].projected_rows[step - 1])).join(" / ")));
  };
  return {
    node: scroll(t("all_steps"), table),
    update: () => {
      const from = steps <= MOST_ROWS ? 1 : Math.max(1, Math.min(steps - 24, state.step - 12));
      const to = steps <= MOST_ROWS ? steps : from + 24;
      if (drawn !== `${from}-${to}`) {
        drawn = `${from}-${to}`;
        put(body, Array.from({ length: to - from + 1 }, (_, i) => row(from + i)));
      }
      for (const line of body.children) {
        if (Number(line.dataset.step) === state.step) line.setAttribute("aria-current", "step");
        else line.removeAttribute("aria-current");
      }
    },
  };
}

export function sequence(step, most = 14) {
  const stop = stops[step - 1];
  const from = Math.max(0, stop - most);
  let text = from ? "…" : "";
  for (let i = from; i < stop; i++) text += label(i);
  return text;
}
