// Charts: SVG redrawn from the history, which has a few hundred points at most. All charts share one cursor.
const longest = 600; // longest span of a chart, in s
const shortest = 120; // shortest span, even with less history

const charts = [];
let cursor = null; // index of the point under the cursor, null for the latest

const svg = (tag, attributes, text) => {
  const e = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
  if (text !== undefined) e.textContent = text;
  return e;
};

// chart adds a chart to the page. Series are {key, name, color, area, dash}; stack stacks the areas.
function chart(title, note, series, options) {
  const c = { title, series, format: number, ...options, pad: { left: 54, right: 8, top: 8, bottom: 18 } };
  c.legend = make("ul", { class: "legend" });
  c.values = series.map(s => {
    const value = make("b", {}, "–");
    c.legend.append(make("li", {}, make("i", { class: `c-${s.color}${s.dash ? " dash" : ""}`, "aria-hidden": "true" }), s.name + " ", value));
    return value;
  });
  c.plot = svg("svg", { class: "plot", tabindex: "0", role: "img" });
  c.root = make("article", { class: "chart" }, make("h3", {}, title + " ", make("small", {}, note)), c.legend, c.plot);
  c.plot.addEventListener("pointermove", e => point(c, e.clientX));
  c.plot.addEventListener("pointerleave", () => moveCursor(null));
  c.plot.addEventListener("keydown", e => step(c, e));
  $("charts").append(c.root);
  charts.push(c);
}

function moveCursor(index) {
  cursor = index;
  for (const c of charts) draw(c);
  put($("cursor"), index === null ? "" : clock(hist.t[index] * 1000));
}

// point moves the cursor to the point nearest to a position on the screen.
function point(c, x) {
  if (!hist.t.length) return;
  const box = c.plot.getBoundingClientRect();
  const at = newest() - shown() * (1 - (x - box.left - c.pad.left) / (box.width - c.pad.left - c.pad.right));
  let best = 0;
  hist.t.forEach((t, i) => { if (Math.abs(t - at) < Math.abs(hist.t[best] - at)) best = i; });
  moveCursor(best);
}

function step(c, e) {
  const last = hist.t.length - 1;
  if (last < 0) return;
  const from = cursor === null ? last : cursor;
  const to = { ArrowLeft: from - 1, ArrowRight: from + 1, PageUp: from - 15, PageDown: from + 15, Home: 0, End: last, Escape: null }[e.key];
  if (to === undefined) return;
  e.preventDefault();
  moveCursor(to === null ? null : Math.max(0, Math.min(last, to)));
  if (to !== null) put($("spoken"), clock(hist.t[cursor] * 1000) + ": " + c.series.map((s, i) => `${s.name} ${c.values[i].textContent}`).join(", "));
}

const newest = () => hist.t[hist.t.length - 1];
const shown = () => hist.t.length ? Math.min(longest, Math.max(shortest, newest() - hist.t[0])) : shortest;

// draw paints one chart at its current size.
function draw(c) {
  const w = c.plot.clientWidth || 300, h = c.plot.clientHeight || 148, n = hist.t.length;
  const right = w - c.pad.right, bottom = h - c.pad.bottom;
  const window = shown(), gap = window > 420 ? 120 : window > 180 ? 60 : 30;
  const x = t => right - (newest() - t) / window * (right - c.pad.left);
  const { y, ticks } = scale(c, c.pad.top, bottom);
  const parts = [];
  for (const v of ticks) {
    parts.push(svg("line", { class: "grid", x1: c.pad.left, x2: right, y1: y(v), y2: y(v) }));
    parts.push(svg("text", { x: c.pad.left - 6, y: y(v) + 3.5, "text-anchor": "end" }, c.format(v)));
  }
  for (let s = gap; s <= window; s += gap) parts.push(svg("text", { x: right - s / window * (right - c.pad.left), y: h - 4, "text-anchor": s > window * 0.95 ? "start" : "middle" }, gap < 60 ? `−${s} s` : `−${s / 60} min`));
  parts.push(svg("text", { x: right, y: h - 4, "text-anchor": "end" }, "now"));
  if (n > 1) parts.push(...away(x, c.pad.top, bottom), ...lines(c, x, y, bottom));
  if (!c.series.some(s => hist[s.key].some(v => v !== null))) parts.push(svg("text", { class: "none", x: (c.pad.left + right) / 2, y: (c.pad.top + bottom) / 2 }, c.none || "Nothing to show yet"));
  if (cursor !== null && n) parts.push(svg("line", { class: "cursor", x1: x(hist.t[cursor]), x2: x(hist.t[cursor]), y1: c.pad.top, y2: bottom }));
  c.plot.setAttribute("viewBox", `0 0 ${w} ${h}`);
  c.plot.replaceChildren(...parts);
  readout(c, n);
}

function readout(c, n) {
  const at = cursor === null ? n - 1 : cursor;
  c.series.forEach((s, i) => put(c.values[i], n ? c.format(latest(s.key, at)) : "–"));
  const parts = c.series.map((s, i) => `${s.name} ${c.values[i].textContent}`);
  const label = `${c.title}, the last minutes. Now ${parts.join(", ")}.`;
  if (cursor === null && c.plot.getAttribute("aria-label") !== label) c.plot.setAttribute("aria-label", label);
}

// latest returns the value at a point, or the one shortly before if that interval has none.
function latest(key, at) {
  for (let i = at; i >= 0 && i > at - 8; i--) if (hist[key][i] !== null) return hist[key][i];
  return null;
}

// scale returns a range that contains all values, and three to five round numbers in it.
function scale(c, top, bottom) {
  const sums = hist.t.map((_, i) => c.stack ? c.series.filter(s => s.area).reduce((a, s) => a + (hist[s.key][i] || 0), 0) : 0);
  const all = c.series.flatMap(s => hist[s.key]).concat(sums).filter(v => v !== null);
  return c.log ? logScale(all, top, bottom) : linearScale(c, all, top, bottom);
}

function linearScale(c, all, top, bottom) {
  const max = c.max || Math.max(...all, c.least || 1e-9) * 1.08;
  const base = c.binary ? 1024 : 10;
  const unit = base ** Math.floor(Math.log(max / 3) / Math.log(base));
  const gap = unit * ((c.binary ? [1, 2, 4, 8, 16, 32, 64, 128, 256, 512] : [1, 2, 5, 10]).find(f => max / (f * unit) <= 4) || base);
  const ticks = [];
  for (let v = 0; v <= max + gap / 1e6; v += gap) ticks.push(v);
  return { y: v => bottom - Math.min(v / max, 1) * (bottom - top), ticks };
}

function logScale(all, top, bottom) {
  const some = all.filter(v => v > 0);
  const low = Math.floor(Math.log10(Math.min(...some, 1))), high = Math.max(Math.ceil(Math.log10(Math.max(...some, 1e-9))), low + 1);
  const from = some.length ? low : -3, to = some.length ? high : 1;
  const ticks = [];
  for (let e = from; e <= to; e += Math.ceil((to - from) / 5)) ticks.push(10 ** e);
  return { y: v => bottom - (Math.log10(Math.max(v, 10 ** from)) - from) / (to - from) * (bottom - top), ticks };
}

// away shades the times when the link was down.
function away(x, top, bottom) {
  const parts = [];
  for (let i = 0, start = null; i <= hist.t.length; i++) {
    const down = i < hist.t.length && hist.up[i] === 0;
    if (down && start === null) start = i;
    if (!down && start !== null) {
      const left = x(hist.t[Math.max(start - 1, 0)]);
      const rect = svg("rect", { class: "away", x: left, y: top, width: Math.max(x(hist.t[Math.min(i, hist.t.length - 1)]) - left, 1), height: bottom - top });
      rect.append(svg("title", {}, "the link was down"));
      parts.push(rect);
      start = null;
    }
  }
  return parts;
}

function lines(c, x, y, bottom) {
  const parts = [], floor = hist.t.map(() => 0);
  for (const s of c.series) {
    const base = floor.slice();
    const values = hist[s.key].map((v, i) => v === null ? null : c.stack && s.area ? (floor[i] += v) : v);
    if (s.area) parts.push(svg("path", { class: `area c-${s.color}`, d: area(values, base, x, y) }));
    parts.push(svg("path", { class: `c-${s.color}${s.dash ? " dash" : ""}`, d: line(values, x, y) }));
  }
  return parts;
}

// line bridges a few empty intervals, and leaves a gap at longer ones.
function line(values, x, y) {
  let d = "", last = null;
  values.forEach((v, i) => {
    if (v === null) return;
    d += `${last === null || hist.t[i] - last > 12 ? "M" : "L"}${x(hist.t[i]).toFixed(1)} ${y(v).toFixed(1)}`;
    last = hist.t[i];
  });
  return d;
}

function area(values, base, x, y) {
  const there = values.map((v, i) => v === null ? null : `${x(hist.t[i]).toFixed(1)} ${y(v).toFixed(1)}`).filter(p => p);
  const back = values.map((v, i) => v === null ? null : `${x(hist.t[i]).toFixed(1)} ${y(base[i]).toFixed(1)}`).filter(p => p).reverse();
  return there.length ? "M" + there.concat(back).join("L") + "Z" : "";
}

// watchSize redraws the charts when their size changes.
const watchSize = () => new ResizeObserver(() => charts.forEach(draw)).observe($("charts"));
