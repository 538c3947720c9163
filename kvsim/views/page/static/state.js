// Where the reader is: kept in the address (#step=5&layer=1&head=0&lang=en), so that a frame can be linked.

import { LANGUAGES, speak, spoken } from "./text.js";

export const state = { step: 1, layer: 0, head: 0, tab: "" };

const listeners = [];
let limits = {};
let tabs = [];

export function onChange(listener) {
  listeners.push(listener);
}

export function go(patch) {
  const before = { ...state, lang: spoken() };
  for (const [name, [low, high]] of Object.entries(limits)) {
    if (name in patch) state[name] = Math.min(high, Math.max(low, Math.trunc(patch[name]) || low));
  }
  if (tabs.includes(patch.tab)) state.tab = patch.tab;
  if (LANGUAGES.includes(patch.lang)) speak(patch.lang);
  const changed = Object.keys(before).filter((name) => before[name] !== (name === "lang" ? spoken() : state[name]));
  if (!changed.length) return;
  remember();
  for (const listener of listeners) listener(changed);
}

function remember() {
  const parts = { step: state.step, layer: state.layer, head: state.head, tab: state.tab, lang: spoken() };
  if (state.tab === tabs[0]) delete parts.tab;
  try {
    history.replaceState(null, "", "#" + new URLSearchParams(parts));
  } catch {
    // A page inside a notebook has no address of its own.
  }
}

function read() {
  return Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
}

export function begin(kind) {
  limits = { step: [1, kind.steps], layer: [0, (kind.layers || 1) - 1], head: [0, (kind.heads || 1) - 1] };
  tabs = kind.tabs.map((tab) => tab.id);
  state.tab = tabs[0];
  state.step = kind.first || 1;
  speak((navigator.language || "").toLowerCase().startsWith("zh") ? "zh" : "en");
  go(read());
  addEventListener("hashchange", () => go(read()));
}
