// The runs of several caches: steps, rows kept and evicted, as the record has them.

import { state } from "./state.js";
import { data } from "./text.js";

export const CELLS = { cached: "c", key: "K", masked: "x", zero: "" };
export const runs = data.runs;
export const lastStop = data.stops.at(-1);
export const topDivergence = Math.max(...runs.flatMap((run) => run.rows.divergence), 1e-12);

export function before(step) {
  return step > 1 ? data.stops[step - 2] : 0;
}

export function tokenAt(position) {
  return data.tokens[position];
}

export function wholeToken(position) {
  return data.long[position] || data.tokens[position];
}

export function chosen(run, position) {
  return data.vocabulary[run.rows.choice[position]];
}

// The step that evicted each row, 0 for none; null if it was not recorded.
export function fatesOf(run) {
  return run.left_out ? null : run.fates[run.fate_of[state.layer][state.head]];
}

// What a step has made of a row: a key of CELLS, or "later".
export function fateIn(fates, step, position) {
  if (position >= data.stops[step - 1]) return "later";
  const left = fates[position];
  if (left && left < step) return "zero";
  if (left === step) return "masked";
  return position >= before(step) ? "key" : "cached";
}

// How many rows are held after a step, and how many it evicts.
export function countRows(fates, step) {
  const found = { held: 0, evicted: 0 };
  for (let i = 0; i < data.stops[step - 1]; i++) {
    const left = fates[i];
    if (left === step) found.evicted++;
    else if (!left || left > step) found.held++;
  }
  return found;
}

export function stepOf(position) {
  return data.stops.findIndex((stop) => position < stop) + 1;
}
