// The tabs "memory" and "cost" of a run.

import { chart } from "./charts.js";
import { el, put, scroll, write } from "./dom.js";
import { RUNS } from "./run.js";
import { state } from "./state.js";
import { data, sizeOf, t, whole } from "./text.js";

function bytes(x) {
  return x === 0 ? "0" : sizeOf(Math.round(x));
}

function short(x) {
  const units = [[1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];
  const found = units.find(([size]) => x >= size);
  return found ? Number((x / found[0]).toPrecision(3)) + found[1] : String(Math.round(x));
}

function fact(name, key) {
  const value = el("b", 0);
  return { node: el("div", { class: "fact " + key }, value, el("span", "soft", name)), value };
}

export function buildMemory(root) {
  const { kv_bytes: held, allocated_bytes: allocated } = data.counts.cached;
  const wasted = allocated.map((x, i) => Number(x) - Number(held[i]));
  const plot = chart(t("memory_title"), [
    { name: "allocated", label: t("allocated"), values: allocated, shape: "area" },
    { name: "held", label: t("held"), values: held, shape: "area" },
  ], bytes, 2);
  const facts = ["held", "allocated", "wasted", "without"].map((key) => fact(t(key), key));
  root.append(el("div", "facts-row", facts.map((one) => one.node)), plot.node, el("p", "notes soft", t("memory_note")));
  return () => {
    const i = state.step - 1;
    const values = [held[i], allocated[i], wasted[i], data.counts.no_cache.kv_bytes[i]];
    facts.forEach((one, k) => write(one.value, `${whole(values[k])} B`));
    plot.update();
  };
}

export function buildCost(root) {
  const flops = (run) => data.counts[run].flops;
  const work = chart(t("flops_title"), RUNS.map((run) => ({ name: run, label: t(run), values: flops(run), shape: "bars" })), short);
  const read = chart(t("read_title"), [
    { name: "held", label: t("kv_read"), values: [0, ...data.counts.cached.kv_bytes.slice(0, -1)], shape: "area" }], bytes, 2);
  const kinds = el("div", "kinds");
  const heading = el("h2", 0);
  root.append(phases(), work.node, read.node, el("section", "plot", heading, kinds));
  return () => {
    work.update();
    read.update();
    write(heading, t("kinds_title", { step: state.step }));
    drawKinds(kinds);
  };
}

// Prefill and decode: the steps that feed the prompt, and those that feed new tokens.
function phases() {
  const rows = data.phases.map((phase) => el("tr", 0, el("th", { scope: "row" }, t(phase.name)), el("td", 0, whole(phase.steps)), el("td", 0, whole(phase.tokens)),
    RUNS.flatMap((run) => el("td", 0, whole(phase[run].flops))), el("td", 0, phase.saved), el("td", 0, sizeOf(phase.kv_read))));
  return scroll(t("phases"), el("table", "steps", el("caption", 0, t("phases")),
    el("thead", 0, el("tr", 0, el("td", 0), ["steps", "tokens", "no_cache_flops", "cached_flops", "saved", "kv_read"].map((name) => el("th", { scope: "col" }, t(name))))),
    el("tbody", 0, rows)));
}

// The MACs of the present step by kind of product, both runs on one scale.
function drawKinds(root) {
  const value = (run, kind) => Number((data.kinds[run][kind] || [])[state.step - 1] || 0);
  const names = [...new Set(RUNS.flatMap((run) => Object.keys(data.kinds[run])))];
  const top = Math.max(...names.flatMap((kind) => RUNS.map((run) => value(run, kind))), 1);
  put(root, names.map((kind) => el("div", "kind", el("span", "kind-name", kind),
    el("div", "pair", RUNS.map((run) => {
      const bar = el("i", run);
      bar.style.width = `${(70 * value(run, kind)) / top}%`;
      return el("div", 0, bar, el("span", 0, whole(value(run, kind))));
    })))));
}
