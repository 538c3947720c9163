// The run: tokens, shapes, counts, values, as the record has them.

import { data } from "./text.js";

export const RUNS = ["no_cache", "cached"];
export const PLACES = ["query", "key", "value", "scores", "probs", "context"];
export const stops = [];
for (const size of data.feed) stops.push((stops.at(-1) || 0) + size);
export const total = stops.at(-1);

const groupOf = [];
data.groups.forEach((group, g) => group.layers.forEach((layer) => (groupOf[layer] = g)));

export function label(position) {
  return data.tokens[position];
}

export function fullLabel(position) {
  return data.long[position] || data.tokens[position];
}

// Where the scores of a step lie: queries q0 and on, keys k0 and on.
export function shapeOf(run, step, layer) {
  const [rows, cols] = data.shapes[run][groupOf[layer]][step - 1];
  const stop = stops[step - 1];
  return { q0: stop - rows, rows, k0: stop - cols, cols };
}

export function windowOf(layer) {
  return data.groups[groupOf[layer]].window;
}

export function isMasked(layer, t, s) {
  const window = windowOf(layer);
  return s > t || (window !== null && s <= t - window);
}

// The step that computed the row of position s first.
export function madeAt(s) {
  return stops.findIndex((stop) => s < stop) + 1;
}

// 24-bit codes, the first bytes of float32 numbers.
function bytesOf(text) {
  return atob(text);
}

function code(bytes, at) {
  return (bytes.charCodeAt(at) << 16) | (bytes.charCodeAt(at + 1) << 8) | bytes.charCodeAt(at + 2);
}

function numbers(text) {
  const bytes = bytesOf(text);
  const out = new Uint32Array(bytes.length / 3);
  for (let i = 0; i < out.length; i++) out[i] = code(bytes, 3 * i) << 8;
  return new Float32Array(out.buffer);
}

const first = new Map();
const changed = new Map();
const one = new Uint32Array(1);
const oneNumber = new Float32Array(one.buffer);

function firstOf(layer, place) {
  const key = layer + place;
  if (!first.has(key)) first.set(key, numbers(data.values.first[layer][place].data));
  return first.get(key);
}

function changesOf(step, run, layer, place) {
  const key = [step, RUNS.indexOf(run), layer, PLACES.indexOf(place)].join(".");
  if (!changed.has(key)) {
    const found = new Map();
    const bytes = bytesOf(data.values.changes[key] || "");
    for (let i = 0; i < bytes.length; i += 6) {
      one[0] = code(bytes, i + 3) << 8;
      found.set(code(bytes, i), oneNumber[0]);
    }
    changed.set(key, found);
  }
  return changed.get(key);
}

// A function (i, j) -> number for one head of `place` in one step; null where values are left out. i: a position;
// j: an element, or for scores and probabilities the key's position.
export function reader(step, run, layer, head, place) {
  if (!data.values) return null;
  const [heads, width] = data.values.first[layer][place].shape;
  const x = Math.floor((head * heads) / data.model.heads);
  const numbers = firstOf(layer, place);
  const changes = changesOf(step, run, layer, place);
  const triangle = place === "probs"; // what is masked is 0, and not stored
  return (i, j) => {
    const at = (x * total + i) * width + j;
    if (changes.size && changes.has(at)) return changes.get(at);
    if (!triangle) return numbers[at];
    return j > i ? 0 : numbers[x * ((total * (total + 1)) / 2) + (i * (i + 1)) / 2 + j];
  };
}

export function widthOf(layer, place) {
  return data.values.first[layer][place].shape[1];
}

export function vector(step, run, layer, head, place, position) {
  const read = reader(step, run, layer, head, place);
  return read && Array.from({ length: widthOf(layer, place) }, (_, j) => read(position, j));
}
