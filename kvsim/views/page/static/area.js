// A step of many tokens to scale: what is computed, masked and read from the cache, as areas and not cell by cell.

import { HIDDEN, svg } from "./dom.js";
import { shapeOf, total, windowOf } from "./run.js";

export function drawAreas(run, step, layer) {
  const { q0, rows, k0, cols } = shapeOf(run, step, layer);
  const window = windowOf(layer);
  const n = total;
  const stop = q0 + rows;
  const strip = n * 0.04;
  const points = (list) => list.map(([x, y]) => `${x},${y + 2 * strip}`).join(" ");
  const box = (name, x, y, width, height) => width > 0 && svg("rect", { "data-fill": name, x, y, width, height });
  const least = Math.max(rows, n / 200); // one row of thousands is still seen
  const shapes = [
    box("whole", 0, 2 * strip, n, n),
    box("cached", k0, 0, q0 - k0, strip),
    box("key", Math.max(k0, q0), 0, Math.max(stop - Math.max(k0, q0), n / 200), strip),
    box("calc", k0, q0 + 2 * strip, cols, least),
  ];
  if (rows > 1) shapes.push(svg("polygon", { "data-fill": "masked", points: points([[q0 + 1, q0], [stop, q0], [stop, stop - 1]]) }));
  if (window !== null && stop - window > k0) {
    const from = Math.max(q0, k0 + window - 1);
    shapes.push(svg("polygon", { "data-fill": "masked", points: points([[k0, from], [from - window + 1, from], [stop - window, stop], [k0, stop]]) }));
  }
  const mark = (text, x, y) => shapes.push(svg("text", { x, y, "font-size": n * 0.045, "text-anchor": "middle" }, text));
  if (q0 - k0 > n / 8) mark("c", (k0 + q0) / 2, strip * 0.9);
  if (stop - q0 > n / 8) {
    mark("K", (q0 + stop) / 2, strip * 0.9);
    mark("#", q0 + rows * 0.3, q0 + rows * 0.7 + 2 * strip);
    mark("x", q0 + rows * 0.7, q0 + rows * 0.3 + 2 * strip);
  }
  return svg("svg", { viewBox: `0 0 ${n} ${n + 2 * strip}`, ...HIDDEN }, shapes);
}
