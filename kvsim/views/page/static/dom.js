// Elements made, and changed only where they differ.

// Attributes of what is only to be seen: a text beside it says the same.
export const HIDDEN = { "aria-hidden": "true" };
const SVG = "http://www.w3.org/2000/svg";

// el("button", {class: "a", onclick: f, hidden: true}, "text", child): attributes (a string: the class; 0: none),
// handlers and children.
export function el(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(node, attributes, children) {
  const given = typeof attributes === "string" ? { class: attributes } : attributes || {};
  for (const [name, value] of Object.entries(given)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (!isNothing(value)) node.setAttribute(name, value === true ? "" : value);
  }
  return add(node, children);
}

function isNothing(value) {
  return value === null || value === undefined || value === false;
}

// Children in lists of any depth; null and false are none.
export function add(node, ...children) {
  node.append(...children.flat(9).filter((child) => !isNothing(child)));
  return node;
}

export function put(node, ...children) {
  node.replaceChildren();
  return add(node, children);
}

// What may be wider than the page, so that it scrolls by itself, also by keys.
export function scroll(name, child) {
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": name }, child);
}

export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
