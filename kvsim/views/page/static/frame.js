// The frame of every page: title, language, tabs, transport, help, the sentence that is read aloud, print.
//
// A kind calls run({steps, first (step shown), layers, heads, tabs: [{id, build(root) -> update}], top() -> element, bars() -> [list, list],
// sentence() -> text, title() -> text, prints() -> elements, keys: {key: action}}). `build` makes a tab's elements and
// returns the function that shows the present state in them.

import { HIDDEN, el, put, write } from "./dom.js";
import { begin, go, onChange, state } from "./state.js";
import { data, spoken, t } from "./text.js";
import { listenToKeys, makeTransport, updateTransport } from "./transport.js";

const page = document.getElementById("page");
let kind;
let update = () => {};
let live;
let help;

export function run(what) {
  kind = what;
  begin(kind);
  build();
  onChange((changed) => {
    if (changed.includes("lang")) build();
    else if (changed.includes("tab")) showTab();
    refresh();
  });
  listenToKeys({ l: otherLanguage, "?": openHelp, ...kind.keys });
  addEventListener("beforeprint", makePrints);
  matchMedia("print").addEventListener("change", (event) => event.matches && makePrints());
}

function otherLanguage() {
  go({ lang: spoken() === "zh" ? "en" : "zh" });
}

function build() {
  document.title = kind.title();
  live = el("p", { class: "live", "aria-live": "polite" });
  help = makeHelp();
  put(page,
    el("header", "head",
      el("div", "brand", el("span", { class: "logo", ...HIDDEN }, el("i"), el("i"), el("i"), el("i")), "kvsim",
        el("span", "soft", " · " + t("tagline"))),
      el("div", "tools",
        el("button", { type: "button", lang: spoken() === "zh" ? "en" : "zh-CN", onclick: otherLanguage }, spoken() === "zh" ? "English" : "中文"),
        el("button", { type: "button", onclick: openHelp, "aria-label": t("help") }, "?"))),
    el("main", 0, kind.top(), live, makeTabs(), el("section", { id: "tab", role: "tabpanel", tabindex: -1 }), makeNotes()),
    el("footer", "dock", makeTransport(kind)),
    el("div", "prints"),
    help);
  showTab();
  refresh();
}

function refresh() {
  update();
  updateTransport();
  write(live, kind.sentence());
}

function makeNotes() {
  return el("div", "notes", data.notes[spoken()].map((note) => el("p", 0, note)),
    el("p", "soft", t("made", { version: data.kvsim })));
}

function makeTabs() {
  const list = el("div", { class: "tabs", role: "tablist", "aria-label": t("tabs") });
  for (const { id } of kind.tabs) {
    list.append(el("button", { type: "button", role: "tab", id: "tab-" + id, "aria-controls": "tab", onclick: () => go({ tab: id }) }, t("tab_" + id)));
  }
  list.addEventListener("keydown", (event) => {
    const ids = kind.tabs.map((tab) => tab.id);
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!move) return;
    event.preventDefault();
    go({ tab: ids[(ids.indexOf(state.tab) + move + ids.length) % ids.length] });
    document.getElementById("tab-" + state.tab).focus();
  });
  return list;
}

function showTab() {
  for (const { id } of kind.tabs) {
    const button = document.getElementById("tab-" + id);
    button.setAttribute("aria-selected", String(id === state.tab));
    button.tabIndex = id === state.tab ? 0 : -1;
  }
  const panel = document.getElementById("tab");
  panel.setAttribute("aria-labelledby", "tab-" + state.tab);
  panel.replaceChildren();
  update = kind.tabs.find((tab) => tab.id === state.tab).build(panel);
}

function makeHelp() {
  const rows = t("keys").split("\n").map((line) => line.split("\t"));
  return el("dialog", { "aria-labelledby": "help-title", class: "help" },
    el("h2", { id: "help-title" }, t("help")),
    el("dl", 0, rows.map(([keys, does]) => [el("dt", 0, keys.split(" ").map((key) => el("kbd", 0, key))), el("dd", 0, does)])),
    el("p", "soft", t("link")),
    el("p", "close", el("button", { type: "button", onclick: () => help.close() }, t("close")))); // no form: a notebook's frame forbids them
}

function openHelp() {
  if (!help.open) help.showModal();
}

function makePrints() {
  const prints = page.querySelector(".prints");
  if (prints && !prints.childElementCount) put(prints, kind.prints());
}
