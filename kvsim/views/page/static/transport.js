// First, back, play, next, last, the slider, the bars of every step, the speed; and the keys.

import { HIDDEN, el, svg, write } from "./dom.js";
import { go, state } from "./state.js";
import { t } from "./text.js";

const SPEEDS = [0.5, 1, 2, 4];
const ICONS = {
  first: "M5 5v14M19 5l-10 7 10 7z", back: "M17 5l-10 7 10 7z", play: "M7 4l13 8-13 8z", pause: "M8 5v14M16 5v14",
  next: "M7 5l10 7-10 7z", last: "M19 5v14M5 5l10 7-10 7z",
};

let timer = 0;
let speed = 1;
let parts = {};
let total = 1;

function icon(name) {
  return svg("svg", { viewBox: "0 0 24 24", ...HIDDEN }, svg("path", { d: ICONS[name] }));
}

function button(name, action) {
  return el("button", { type: "button", class: "icon " + name, title: t(name), "aria-label": t(name), onclick: action }, icon(name));
}

export function makeTransport(kind) {
  total = kind.steps;
  const play = button("play", toggle);
  const slider = el("input", {
    type: "range", min: 1, max: total, value: state.step, "aria-label": t("step"),
    oninput: (event) => go({ step: event.target.value }),
  });
  const pace = el("select", { "aria-label": t("speed"), onchange: (event) => { speed = Number(event.target.value); restart(); } },
    SPEEDS.map((x) => el("option", { value: x, selected: x === speed }, x + "×")));
  const place = el("output", "place");
  const bars = makeBars(kind);
  parts = { play, slider, place, ...bars };
  return el("div", { class: "transport", role: "group", "aria-label": t("transport") },
    el("div", "buttons",
      button("first", () => go({ step: 1 })), button("back", () => go({ step: state.step - 1 })), play,
      button("next", () => go({ step: state.step + 1 })), button("last", () => go({ step: total }))),
    place,
    el("div", "scrub", bars.picture, slider),
    el("label", "pace", el("span", 0, t("speed")), pace));
}

// One bar a step and run, as two paths, whatever the number of steps.
function makeBars(kind) {
  const [tall, low] = kind.bars();
  const top = [...tall, ...low].reduce((most, x) => Math.max(most, x), 1);
  const path = (list) => list.map((x, i) => `M${i + 0.12} 1V${(1 - x / top).toFixed(4)}h.76V1z`).join("");
  const here = svg("rect", { class: "here", y: 0, height: 1, width: 1 });
  const made = svg("rect", { class: "made", y: 0, height: 1, width: 1, visibility: "hidden" });
  const picture = svg("svg", { class: "timeline", viewBox: `0 0 ${total} 1`, preserveAspectRatio: "none", ...HIDDEN },
    made, here, svg("path", { class: "tall", d: path(tall) }), svg("path", { class: "low", d: path(low) }));
  picture.addEventListener("click", (event) => {
    const box = picture.getBoundingClientRect();
    go({ step: 1 + Math.floor(((event.clientX - box.left) / box.width) * total) });
  });
  return { picture, here, made };
}

export function showMade(step) {
  parts.made.setAttribute("visibility", step ? "visible" : "hidden");
  if (step) parts.made.setAttribute("x", step - 1);
}

export function updateTransport() {
  parts.slider.value = state.step;
  parts.slider.setAttribute("aria-valuetext", t("place", { step: state.step, last: total }));
  parts.here.setAttribute("x", state.step - 1);
  write(parts.place, `${state.step} / ${total}`);
  if (timer && state.step === total) toggle();
}

function restart() {
  if (!timer) return;
  clearInterval(timer);
  timer = setInterval(() => go({ step: state.step + 1 }), 1100 / speed);
}

export function toggle() {
  if (timer) {
    clearInterval(timer);
    timer = 0;
  } else {
    if (state.step === total) go({ step: 1 });
    timer = setInterval(() => go({ step: state.step + 1 }), 1100 / speed);
  }
  const name = timer ? "pause" : "play";
  parts.play.replaceChildren(icon(name));
  parts.play.title = t(name);
  parts.play.setAttribute("aria-label", t(name));
}

// Keys of the whole page. Grids, fields and tabs stop the keys that they use themselves.
export function listenToKeys(others) {
  const actions = {
    ArrowLeft: () => go({ step: state.step - 1 }), ArrowRight: () => go({ step: state.step + 1 }),
    PageUp: () => go({ step: state.step - 1 }), PageDown: () => go({ step: state.step + 1 }),
    Home: () => go({ step: 1 }), End: () => go({ step: total }), " ": toggle, ...others,
  };
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    const field = event.target.closest("input, select, textarea, dialog, [role=tab]");
    if (field && event.key !== "l" && event.key !== "?") return;
    if (event.key === " " && event.target.closest("button, a, summary")) return;
    const action = actions[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
}
