// Formats of words and numbers, and elements built without HTML strings.
const $ = id => document.getElementById(id);

// make builds an element. Strings become text nodes, so that a device's name cannot be markup.
function make(tag, attributes = {}, ...children) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(attributes)) {
    if (k === "width") e.style.width = v; // by the DOM, since the header allows no style attributes
    else if (k === "left") e.style.left = v;
    else if (v !== undefined && v !== false) e.setAttribute(k, v);
  }
  e.append(...children.filter(c => c !== null && c !== undefined));
  return e;
}

// put replaces text only if it changed, so that a screen reader does not repeat unchanged text.
function put(e, text) {
  if (e.textContent !== text) e.textContent = text;
}

// whole and clock avoid the locale's formats, which take 20 ms to load before the first paint.
const whole = n => String(Math.round(n)).replace(/\B(?=(\d{3})+$)/g, ",");

// noun and several put a noun into singular or plural: 1 task, 2 tasks.
const noun = (n, one) => n === 1 ? one : `${one}s`;
const several = (n, one) => `${whole(n)} ${noun(n, one)}`;

function number(v) {
  if (v === null || v === undefined || !isFinite(v)) return "–";
  const a = Math.abs(v);
  if (a >= 1e6) return (v / 1e6).toFixed(a >= 1e7 ? 1 : 2) + "M";
  if (a >= 100) return whole(v);
  if (a >= 10 || a === 0 || Number.isInteger(v)) return String(Math.round(v * 10) / 10);
  return String(Number(v.toPrecision(a < 0.01 ? 2 : 3)));
}

function bytes(v) {
  if (v === null || v === undefined || !isFinite(v)) return "–";
  let unit = 0;
  for (; v >= 1000 && unit < 4; unit++) v /= 1024;
  return (unit === 0 ? Math.round(v) : Number(v.toPrecision(3))) + " " + ["B", "KiB", "MiB", "GiB", "TiB"][unit];
}

// rate formats the rate of a link, in decimal units.
function rate(v) {
  if (!v || !isFinite(v)) return v === 0 ? "0" : "–";
  let unit = 0;
  for (; v >= 999.5 && unit < 3; unit++) v /= 1000;
  return (unit === 0 ? Math.round(v) : Number(v.toPrecision(3))) + " " + ["B", "kB", "MB", "GB"][unit] + "/s";
}

function seconds(s) {
  if (s === null || s === undefined || !isFinite(s)) return "–";
  if (s === 0) return "0 s";
  if (s < 0.0009995) return Number((s * 1e6).toPrecision(3)) + " µs";
  if (s < 1) return Number((s * 1e3).toPrecision(s < 0.01 ? 2 : 3)) + " ms";
  if (s < 100) return Number(s.toPrecision(3)) + " s";
  if (s < 7200) return Math.round(s / 60) + " min";
  if (s < 172800) return Math.round(s / 3600) + " h";
  return Math.round(s / 86400) + " d";
}

// percent rounds no share to 0 % or 100 % that is neither.
function percent(share) {
  const p = share * 100, text = p.toFixed((p > 0 && p < 10) || (p > 99 && p < 100) ? 1 : 0);
  if (p > 0 && Number(text) === 0) return "< 0.1 %";
  if (p < 100 && Number(text) >= 100) return "> 99.9 %";
  return text + " %";
}

const span = ms => ms < 1000 ? "0 s" : ms < 100000 ? Math.floor(ms / 1000) + " s" : seconds(ms / 1000);
const watts = v => v === null || v === undefined ? "–" : v < 1 ? number(v * 1e3) + " mW" : number(v) + " W";
const clock = ms => new Date(ms).toTimeString().slice(0, 8);
// moment formats a time of day, with the date if it is not today's.
function moment(text) {
  const t = new Date(text), day = d => `${d.getFullYear()}-${String(d.getMonth() + 1).padStart(2, "0")}-${String(d.getDate()).padStart(2, "0")}`;
  return day(t) === day(new Date()) ? clock(t) : `${day(t)} ${clock(t)}`;
}
const sum = counts => Object.values(counts || {}).reduce((a, b) => a + b, 0);
const place = target => target === "cloud" ? "cloud" : "local";

// spell turns a name such as linkDown into words.
const spell = name => name.replace(/([a-z])([A-Z])/g, "$1 $2").replace(/_/g, " ").toLowerCase();

// reasons lists the non-zero counts, the largest first.
const reasons = counts => Object.entries(counts || {}).filter(([, n]) => n > 0).sort((a, b) => b[1] - a[1]).map(([r, n]) => `${spell(r)} ${whole(n)}`).join(" · ");
