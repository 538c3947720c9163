// Charts over steps, drawn as paths: lines, areas and bars with one scale, a title, and the present step marked.

import { HIDDEN, el, svg } from "./dom.js";
import { go, state } from "./state.js";
import { t } from "./text.js";

const W = 720;
const H = 220;
const PAD = { left: 64, right: 12, top: 12, bottom: 26 };

// series: [{name, label, values, shape: "area" | "line" | "bars"}]; show(value) -> text of the axis, whose end is round
// in powers of `base`, and not below `least`.
export function chart(title, series, show, base = 10, least = 1) {
  const n = series[0].values.length;
  const most = series.map((one) => one.values.reduce((top, value) => Math.max(top, Number(value)), least));
  const top = niceTop(Math.max(...most), base);
  const inner = W - PAD.left - PAD.right;
  const x = (i) => PAD.left + (inner * i) / n;
  const y = (value) => PAD.top + (H - PAD.top - PAD.bottom) * (1 - value / top);
  const here = svg("rect", { class: "here", y: PAD.top, height: H - PAD.top - PAD.bottom, width: Math.max(inner / n, 2) });
  const ticks = [0, 0.5, 1].map((part) => [
    svg("line", { class: "axis", x1: PAD.left, x2: W - PAD.right, y1: y(part * top), y2: y(part * top) }),
    svg("text", { x: PAD.left - 8, y: y(part * top) + 4, "text-anchor": "end" }, show(part * top)),
  ]);
  const labels = pick(n).map((step) => svg("text", { x: (x(step - 1) + x(step)) / 2, y: H - 8, "text-anchor": "middle" }, step));
  const picture = svg("svg", { viewBox: `0 0 ${W} ${H}`, class: "chart", role: "img", "aria-label": title }, here, ticks, labels,
    series.map((one, k) => svg("path", { class: one.shape + " " + one.name, d: path(one, k, series.length, x, y, inner / n) })));
  picture.addEventListener("click", (event) => {
    const box = picture.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * W;
    go({ step: 1 + Math.floor(((at - PAD.left) / inner) * n) });
  });
  const legend = el("ul", "legend", series.map((one) => el("li", 0, el("span", { class: "swatch " + one.shape + " " + one.name, ...HIDDEN }), one.label)));
  return {
    node: el("figure", "plot", el("figcaption", 0, el("h2", 0, title), legend), picture, el("p", "soft axis-name", t("step"))),
    update: () => here.setAttribute("x", x(state.step - 1)),
  };
}

function path({ values, shape }, k, count, x, y, width) {
  const base = y(0);
  if (shape === "bars") {
    const bar = (width * 0.8) / count;
    return values.map((value, i) => `M${round(x(i) + width * 0.1 + k * bar)} ${round(base)}V${round(y(Number(value)))}h${round(bar)}V${round(base)}z`).join("");
  }
  const line = values.map((value, i) => `${i ? "V" : "M" + round(x(0)) + " "}${round(y(Number(value)))}H${round(x(i + 1))}`).join("");
  return shape === "area" ? `${line}V${round(base)}H${round(x(0))}z` : line;
}

function round(value) {
  return Math.round(value * 100) / 100;
}

// A round number, of a decimal or a binary scale, that is not below the value.
function niceTop(value, base) {
  const unit = base ** Math.floor(Math.log(value) / Math.log(base));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10, 20].map((k) => k * unit).find((top) => top >= value);
}

function pick(n) {
  if (n <= 16) return Array.from({ length: n }, (_, i) => i + 1);
  const every = Math.ceil(n / 8);
  return [1, ...Array.from({ length: 8 }, (_, i) => (i + 1) * every).filter((step) => step <= n)];
}
