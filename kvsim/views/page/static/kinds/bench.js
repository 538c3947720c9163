// The page of `kvsim bench`: each context's times as bars with quartiles, and every repeat.

import { HIDDEN, el, scroll, svg } from "../dom.js";
import { run } from "../frame.js";
import { go, state } from "../state.js";
import { data, digits, spoken, t, whole } from "../text.js";

const points = data.record.points;
const most = data.ways.reduce((top, way) => data.quartiles[way].reduce((high, three) => Math.max(high, three[2], three[1]), top), 0) || 1;

function shown(way, i) {
  return data.shown[way === "uncached" ? "no_cache" : way][i];
}

function top() {
  return el("section", "top bench",
    el("div", "text", el("h1", 0, t("heading")), el("p", "soft", data.headline[spoken()]), el("p", 0, t("machine") + " ", el("b", 0, data.machine))),
    el("div", { class: "figures", role: "group", "aria-label": t("milliseconds") }, data.ways.map((way) =>
      el("div", "figure", el("span", "figure-name", t(way)), el("p", 0, el("b", 0, digits(data.record.seconds[way]))),
        el("p", "soft", t("seconds_of"))))));
}

// A bar up to the median and a line from the first to the third quartile, all on one scale.
function bar(way, i) {
  const [low, middle, high] = data.quartiles[way][i];
  const at = (seconds) => Math.max(0, (100 * seconds) / most); // of two repeats a quartile may lie below 0
  return svg("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", ...HIDDEN },
    svg("rect", { class: way, x: 0, y: 1.5, width: at(middle), height: 7 }),
    svg("path", { class: "quartiles", d: `M${at(low)} 5H${at(high)}` }));
}

function makeTable() {
  const rows = [];
  points.forEach((point, i) => data.ways.forEach((way, k) => rows.push(
    el("tr", { class: k ? null : "first", "data-step": i + 1, onclick: () => go({ step: i + 1 }) },
      k ? null : el("th", { scope: "rowgroup", rowspan: data.ways.length }, whole(point.context)),
      el("td", "way", t(way)), el("td", 0, shown(way, i)), el("td", "bars", bar(way, i)),
      k ? null : el("td", { rowspan: data.ways.length }, shown("faster", i)),
      k ? null : el("td", { rowspan: data.ways.length }, shown("read", i))))));
  const head = ["context", null, "milliseconds", null, "faster", "read"].map((name) => name ? el("th", { scope: "col" }, t(name)) : el("td", 0));
  return el("table", "measured", el("caption", 0, t("caption")), el("thead", 0, el("tr", 0, head)), el("tbody", 0, rows));
}

function buildMeasured(root) {
  const table = makeTable();
  root.append(el("div", "bar", el("ul", "legend", data.ways.map((way) => el("li", 0, el("span", { class: "swatch " + way, ...HIDDEN }), t(way))))),
    scroll(t("caption"), table), el("p", "notes soft", t("bars")));
  return () => {
    for (const row of table.querySelectorAll("[data-step]")) {
      if (row.dataset.step === String(state.step)) row.setAttribute("aria-current", "true");
      else row.removeAttribute("aria-current");
    }
  };
}

function buildRepeats(root) {
  const rows = points.flatMap((point) => data.ways.map((way) => el("tr", 0, el("th", { scope: "row" }, whole(point.context)), el("td", "way", t(way)),
    el("td", "way", point[way].map((seconds) => digits(1000 * seconds)).join("  ")))));
  root.append(scroll(t("repeats"), el("table", "measured", el("caption", 0, t("repeats")), el("tbody", 0, rows))));
  return () => {};
}

function sentence() {
  const i = state.step - 1;
  const values = { context: whole(points[i].context), cached: shown("cached", i), uncached: shown("uncached", i), faster: shown("faster", i) };
  return t(data.ways.includes("uncached") ? "sentence" : "sentence_cached", values);
}

run({
  steps: points.length,
  first: points.length,
  tabs: [{ id: "measured", build: buildMeasured }, { id: "repeats", build: buildRepeats }],
  top,
  bars: () => ["uncached", "cached"].map((way) => (data.quartiles[way] || []).map((three) => 1e6 * three[1])),
  title: () => t("title", { model: data.title }),
  sentence,
  prints: () => [makeTable()],
  keys: {},
});
