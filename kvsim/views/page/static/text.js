// Both languages, and numbers as text.

export const data = JSON.parse(document.getElementById("data").textContent);

// Each text is a list, in the order of these languages.
export const LANGUAGES = ["en", "zh"];
let language = "en";

export function speak(lang) {
  language = lang;
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
}

export function spoken() {
  return language;
}

export function t(key, values) {
  const text = data.texts[key][LANGUAGES.indexOf(language)];
  return values ? text.replace(/\{(\w+)\}/g, (_, name) => values[name]) : text;
}

// An exact integer with separators. Those beyond 2^53 come as strings.
export function whole(x) {
  return String(x).replace(/\B(?=(\d{3})+$)/g, ",");
}

// A number of the run, to four digits.
export function digits(x) {
  if (!Number.isFinite(x)) return x > 0 ? "∞" : x < 0 ? "−∞" : "NaN";
  const size = Math.abs(x);
  const text = size && (size < 1e-4 || size >= 1e5) ? x.toExponential(2) : String(Number(x.toPrecision(4)));
  return text.replace(/-/g, "−");
}

export function sums(list) {
  let sum = 0n;
  return list.map((x) => (sum += BigInt(x)));
}

export function sizeOf(bytes) {
  const n = Number(bytes);
  if (n < 1024) return whole(bytes) + " B";
  const [unit, name] = n < 2 ** 20 ? [2 ** 10, "KiB"] : n < 2 ** 30 ? [2 ** 20, "MiB"] : [2 ** 30, "GiB"];
  return Number((n / unit).toPrecision(3)) + " " + name;
}
