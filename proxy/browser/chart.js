// Code generated from src by go generate ./proxy/browser; DO NOT EDIT.

// <usage-chart> shows what was used on each of the last days, by endpoint, and whether the limit
// lasts at this pace.
//
//   <script type="module" src="https://gateway.example.com/usage/chart.js"></script>
//   <usage-chart></usage-chart>
//   <script type="module">
//     document.querySelector('usage-chart').getToken = () => session.token;
//   </script>
//
// The gateway must keep a history: `history: { keep: 35d }` in its configuration.
//
// Attributes: base-url (default: where this file came from), token, days (default 30), label,
// theme (light or dark; default: the system's). Properties: client (of client.js, to share one),
// getToken, messages (to translate). Parts: card, label, count, total, unit, when, plot, notice,
// legend, forecast. Colours and sizes: the --usage-meter-* properties of <usage-meter>,
// --usage-meter-series-1 to -5 and --usage-meter-series-other, --usage-meter-chart-height.
//
// It builds its nodes and its style sheet by script, so a Content-Security-Policy needs
// neither 'unsafe-inline' nor an exception for Trusted Types.


// src/chart/element.js
import { ClientElement, reflectProperties } from "./elements.js";

// src/chart/feed.js
var TIMING = { between: 1e4, retry: 3e4, look: 6e4 };
var HistoryFeed = class {
  history = null;
  problem = null;
  #client;
  #days;
  #onChange;
  #closed = new AbortController();
  #timer;
  #lookTimer;
  // When a reading may begin; null: none is wanted.
  #due = null;
  #reading = false;
  #lastBegin = -Infinity;
  // Counts what makes a running reading worthless.
  #epoch = 0;
  // Whose numbers are followed, and what they were.
  #user = null;
  #used = null;
  // The day that a reading was wanted for because it had begun.
  #newDay = "";
  constructor(client, days, onChange) {
    this.#client = client;
    this.#days = days;
    this.#onChange = onChange;
    document.addEventListener("visibilitychange", () => this.#schedule(), { signal: this.#closed.signal });
    this.#lookTimer = setInterval(() => this.#lookForNewDay(), TIMING.look);
  }
  close() {
    this.#closed.abort();
    this.#epoch++;
    clearTimeout(this.#timer);
    clearInterval(this.#lookTimer);
  }
  follow(state) {
    const user = state && JSON.stringify([state.user, state.org]);
    if (user !== this.#user) {
      this.#user = user;
      this.history = this.problem = this.#used = this.#due = null;
      this.#lastBegin = -Infinity;
      this.#newDay = "";
      this.#epoch++;
      this.#reading = false;
    }
    if (!state) return;
    const used = `${state.used} ${state.stale}`;
    if (used === this.#used || this.problem === "off") return;
    this.#used = used;
    this.#want(TIMING.between);
  }
  readAgain() {
    this.#epoch++;
    this.#reading = false;
    this.#want(0);
  }
  #want(wait) {
    this.#due = this.#lastBegin + wait;
    this.#schedule();
  }
  #schedule() {
    clearTimeout(this.#timer);
    if (this.#due === null || this.#reading || document.visibilityState === "hidden") return;
    const wait = this.#due - performance.now();
    if (wait > 0) this.#timer = setTimeout(() => this.#read(), wait);
    else this.#read();
  }
  async #read() {
    const epoch = this.#epoch;
    this.#due = null;
    this.#reading = true;
    this.#lastBegin = performance.now();
    let { history, problem } = await this.#ask(this.#days());
    if (problem === "unavailable" && this.#days() && epoch === this.#epoch) ({ history, problem } = await this.#ask());
    if (epoch !== this.#epoch) return;
    this.#reading = false;
    this.problem = problem;
    if (history) this.history = history;
    if (problem && problem !== "off") this.#due ??= this.#lastBegin + TIMING.retry;
    this.#onChange();
    this.#schedule();
  }
  async #ask(days) {
    try {
      return { history: await this.#client.history(days), problem: null };
    } catch (error) {
      return { history: null, problem: error?.problem ?? "unavailable" };
    }
  }
  #lookForNewDay() {
    const { history } = this;
    if (!history || document.visibilityState === "hidden") return;
    const today = dateIn(history.timezone);
    if (today <= history.to || today === this.#newDay) return;
    this.#newDay = today;
    this.#want(TIMING.between);
  }
};
function dateIn(timeZone) {
  const parts = new Intl.DateTimeFormat("en", { timeZone, year: "numeric", month: "2-digit", day: "2-digit" }).formatToParts();
  const { year, month, day } = Object.fromEntries(parts.map(({ type, value }) => [type, value]));
  return `${year}-${month}-${day}`;
}

// src/chart/view.js
import { reflect, showText, unitName } from "./elements.js";

// src/chart/data.js
import { headlineLimit } from "./elements.js";
var COLORS = 5;
var DAY = 24 * 60 * 60 * 1e3;
function chartData(history, state) {
  const unit = state?.unit ?? "requests";
  const amount = (u) => unit === "units" ? u.units ?? 0 : u.used;
  const days = history.days.map((day) => ({
    date: day.date,
    total: amount(day),
    endpoints: Object.fromEntries(Object.entries(day.endpoints).map(([name, u]) => [name, amount(u)]))
  }));
  const totals = /* @__PURE__ */ new Map();
  for (const day of days) {
    for (const [name, n] of Object.entries(day.endpoints)) totals.set(name, (totals.get(name) ?? 0) + n);
  }
  const endpoints = [...totals.keys()].sort();
  const shown = endpoints.filter((name) => totals.get(name) > 0).sort((a, b) => totals.get(b) - totals.get(a)).slice(0, COLORS);
  const known = [.../* @__PURE__ */ new Set([...endpoints, ...Object.keys(state?.endpoints ?? {})])].sort();
  const colors = assignColors(shown, known);
  const series = shown.map((name) => ({ name, color: colors.get(name), total: totals.get(name) }));
  const total = sum(days.map((day) => day.total));
  const rest = total - sum(series.map((s) => s.total));
  if (rest > 0) series.push({ name: null, color: 0, total: rest });
  return {
    unit,
    series,
    endpoints,
    total,
    days: days.map((day) => {
      const parts = shown.map((name) => day.endpoints[name] ?? 0);
      return { ...day, parts: rest > 0 ? [...parts, day.total - sum(parts)] : parts };
    })
  };
}
var sum = (numbers) => numbers.reduce((a, b) => a + b, 0);
function assignColors(shown, known) {
  const colors = /* @__PURE__ */ new Map();
  const taken = /* @__PURE__ */ new Set();
  for (const name of known.filter((name2) => shown.includes(name2))) {
    let color = known.indexOf(name) % COLORS;
    while (taken.has(color)) color = (color + 1) % COLORS;
    taken.add(color);
    colors.set(name, color + 1);
  }
  return colors;
}
function evenPace(state) {
  const { limit, period: { start, end } } = state;
  if (!limit || !start || !end || headlineLimit(state)?.shared) return null;
  const days = Math.round((Date.parse(end) - Date.parse(start)) / DAY);
  return days < 1 ? null : limit / days;
}
var FORECAST_DAYS = 7;
var FORECAST_REQUESTS = 10;
function forecast(state, history) {
  const { limit, used, exhausts_at: at, period: { end } } = state;
  if (limit === null || at === void 0) return null;
  if (used >= limit) return { kind: "reached" };
  if (at !== null) return { kind: "exhausts", at };
  const judged = sum(history.days.slice(-FORECAST_DAYS).map((day) => day.used));
  if (!end || judged < FORECAST_REQUESTS || headlineLimit(state)?.shared) return null;
  return { kind: "lasts", at: end };
}

// src/chart/scale.js
function ticks(most) {
  let best = [1, 2];
  let end = most <= 2 ? 2 : Infinity;
  for (let power = Math.max(1, 10 ** (Math.floor(Math.log10(most)) - 1)); power <= most; power *= 10) {
    for (const step of [1, 2, 2.5, 5].map((n) => n * power).filter(Number.isInteger)) {
      const lines = Math.max(2, Math.ceil(most / step));
      if (lines > 4 || lines * step >= end) continue;
      end = lines * step;
      best = Array.from({ length: lines }, (_, i) => (i + 1) * step);
    }
  }
  return best;
}
function datedDays(days, width, room) {
  if (days === 1) return [0];
  const gaps = Math.max(1, Math.min(days - 1, Math.floor(width / room)));
  return Array.from({ length: gaps + 1 }, (_, i) => Math.round(i * (days - 1) / gaps));
}

// src/chart/drawing.js
var SVG = "http://www.w3.org/2000/svg";
var TOP = 6;
var AXIS = 20;
function svgNode(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, String(value));
  node.append(...children);
  return node;
}
var paint = (color) => ({ class: `series s${color}`, fill: `url(#pattern-${color})` });
function patterns() {
  const shapes = ["M0 0H4V4H0Z", "M-1 1L1 -1M0 6L6 0M5 7L7 5", "M0 1.5H6M0 4.5H6", "M1 1H3V3H1ZM4 4H6V6H4Z", "M1.5 0V6M4.5 0V6", "M0 0"];
  return svgNode("defs", {}, ...shapes.map((d, i) => svgNode("pattern", {
    id: `pattern-${(i + 1) % shapes.length}`,
    width: i ? 6 : 4,
    height: i ? 6 : 4,
    patternUnits: "userSpaceOnUse"
  }, svgNode("path", { d, class: [0, 3].includes(i) ? "solid" : "lines" }))));
}
var Drawing = class {
  #svg;
  // Of the last drawing.
  #days = 0;
  #step = 1;
  #mirror = (x, width = 0) => x;
  constructor(svg) {
    this.#svg = svg;
  }
  dayAt(x) {
    return Math.max(0, Math.min(this.#days - 1, Math.floor(this.#mirror(x) / this.#step)));
  }
  draw({ days, series }, { width, height, rtl, pace, active, number, date }) {
    const most = Math.max(1, ...days.map((day) => day.total));
    const paced = pace !== null && pace <= 3 * most;
    const lines = ticks(Math.max(most, paced ? pace : 0));
    const end = lines.at(-1);
    const labels = lines.map(number);
    const gutter = 8 + 6.5 * Math.max(...labels.map((label) => label.length));
    const plot = Math.max(1, width - gutter);
    const base = height - AXIS;
    const y = (value) => base - value / end * (base - TOP);
    this.#days = days.length;
    this.#step = plot / days.length;
    this.#mirror = (x, w = 0) => rtl ? width - x - w : x;
    const mirror = this.#mirror;
    const nodes = [];
    if (active !== null) {
      nodes.push(svgNode("rect", { class: "band", x: mirror(active * this.#step, this.#step), y: 0, width: this.#step, height: base }));
    }
    for (const value of [0, ...lines]) {
      const at = Math.round(y(value)) + 0.5;
      nodes.push(svgNode("line", { class: value ? "grid" : "grid base", x1: mirror(0), x2: mirror(plot), y1: at, y2: at }));
    }
    days.forEach((day, i) => nodes.push(...this.#bar(day, series, i, y)));
    if (paced) {
      const at = Math.round(y(pace)) + 0.5;
      for (const name of ["pace-edge", "pace-line"]) nodes.push(svgNode("line", { class: name, x1: mirror(0), x2: mirror(plot), y1: at, y2: at }));
    }
    labels.forEach((label, i) => nodes.push(svgNode("text", { x: mirror(width), y: Math.round(y(lines[i])) + 4, "text-anchor": "end" }, label)));
    const dated = datedDays(days.length, plot, 76);
    dated.forEach((day, i) => nodes.push(svgNode("text", {
      x: mirror(i === 0 ? 0 : i === dated.length - 1 ? plot : (day + 0.5) * this.#step),
      y: height - 4,
      "text-anchor": i === 0 ? "start" : i === dated.length - 1 ? "end" : "middle"
    }, date(day))));
    this.#svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.#svg.replaceChildren(patterns(), ...nodes);
    return paced;
  }
  #bar(day, series, i, y) {
    if (!day.total) return [];
    const width = this.#step < 4 ? this.#step * 0.8 : Math.min(40, Math.floor(this.#step * 0.78));
    const left = i * this.#step + (this.#step - width) / 2;
    const x = this.#mirror(this.#step < 4 ? left : Math.round(left), width);
    const rect = (s, top, bottom2) => svgNode("rect", {
      ...paint(series[s].color),
      x,
      y: top,
      width,
      height: bottom2 - top,
      rx: Math.min(2, width / 4, (bottom2 - top) / 2)
    });
    const base = Math.round(y(0));
    if (base - y(day.total) < 2) return [rect(day.parts.indexOf(Math.max(...day.parts)), base - 2, base)];
    const rects = [];
    let below = 0;
    let bottom = base;
    day.parts.forEach((part, s) => {
      if (!part) return;
      below += part;
      const top = Math.round(y(below) * 2) / 2;
      const gap = below < day.total && bottom - top >= 2 ? 1 : 0;
      if (bottom > top) rects.push(rect(s, top + gap, bottom));
      bottom = top;
    });
    return rects;
  }
};
function drawGhost(svg, width, height) {
  const bars = Math.max(1, Math.floor(width / 12));
  const step = width / bars;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren(...Array.from({ length: bars }, (_, i) => {
    const tall = (height - AXIS) * (0.45 + 0.2 * Math.sin(i * 0.9) + 0.2 * Math.sin(i * 2.3));
    return svgNode("rect", { class: "ghost", x: i * step, y: height - AXIS - tall, width: step * 0.7, height: tall, rx: 2 });
  }));
}

// src/chart/legend.js
var Legend = class {
  #list;
  // The rows of the series, and the last row, which has the pace.
  #rows = [];
  #pace = null;
  constructor(list) {
    this.#list = list;
  }
  show(series, messages) {
    this.#rows = series.map(({ name, color }) => {
      const row = makeRow(svgNode("rect", { ...paint(color), x: 1, y: 1, width: 10, height: 10, rx: 2.5 }));
      row.name.textContent = name ?? messages.chartOther;
      return row;
    });
    this.#pace = makeRow(svgNode("line", { class: "pace-line", x1: 0, x2: 12, y1: 6, y2: 6 }));
    this.#list.replaceChildren(...[...this.#rows, this.#pace].map(({ item }) => item));
    this.hidePace();
  }
  setValues(values) {
    this.#rows.forEach(({ value }, i) => {
      value.textContent = values[i];
    });
  }
  hidePace() {
    this.#pace.item.hidden = true;
  }
  showPace(name, value, drawn) {
    const pace = this.#pace;
    pace.name.textContent = name;
    pace.value.textContent = value;
    pace.item.className = drawn ? "pace" : "pace undrawn";
    pace.item.hidden = false;
  }
};
function makeRow(mark) {
  const [item, name, value] = ["li", "span", "span"].map((tag) => document.createElement(tag));
  [name.className, value.className] = ["name", "value"];
  item.append(svgNode("svg", { class: "swatch", viewBox: "0 0 12 12", width: 12, height: 12, "aria-hidden": "true" }, mark), name, " ", value);
  return { item, name, value };
}

// src/chart/nodes.js
import { sheetsOf } from "./elements.js";

// src/chart/style.js
var LIGHT = `
  --_s1: var(--usage-meter-series-1, #3052f7);
  --_s2: var(--usage-meter-series-2, #f26b01);
  --_s3: var(--usage-meter-series-3, #0e644b);
  --_s4: var(--usage-meter-series-4, #aa229c);
  --_s5: var(--usage-meter-series-5, #17194b);
  --_s0: var(--usage-meter-series-other, #858e9a);
`;
var DARK = `
  --_s1: var(--usage-meter-series-1, #4b83ff);
  --_s2: var(--usage-meter-series-2, #f3954c);
  --_s3: var(--usage-meter-series-3, #24d0b8);
  --_s4: var(--usage-meter-series-4, #cf42b5);
  --_s5: var(--usage-meter-series-5, #f1f4f8);
  --_s0: var(--usage-meter-series-other, #636566);
`;
var STYLE = `
:host { ${LIGHT} container-type: inline-size; }
@media (prefers-color-scheme: dark) { :host(:not([theme="light"])) { ${DARK} } }
:host([theme="dark"]) { ${DARK} }

.card {
  position: relative;
  padding: var(--usage-meter-padding, 20px);
  background: var(--_background);
  border: 1px solid var(--_border);
  border-radius: var(--usage-meter-radius, 12px);
  box-shadow: var(--_shadow);
}
.label { font-weight: 500; color: var(--_muted); }
.figures { display: flex; align-items: baseline; justify-content: space-between; flex-wrap: wrap; gap: 0 12px; margin-top: 6px; }
.total { font-size: 24px; line-height: 32px; font-weight: 600; letter-spacing: -0.02em; }
.unit, .when { color: var(--_muted); }
.stale .total { color: var(--_muted); }

.plot { height: var(--usage-meter-chart-height, 128px); margin-top: 10px; border-radius: 4px; touch-action: pan-y; cursor: default; }
svg { display: block; }
.plot svg { width: 100%; height: 100%; overflow: visible; }
.plot text { font-size: 11px; fill: var(--_muted); color: var(--_muted); }
.grid { stroke: var(--_border); stroke-width: 1; }
.base { stroke: color-mix(in srgb, var(--_muted) 60%, var(--_border)); }
.band { fill: var(--_track); }
.ghost { fill: var(--_track); }
.loading .plot { animation: breathe 1.6s ease-in-out infinite; }
@keyframes breathe { 50% { opacity: 0.5; } }
.stale .series { opacity: 0.55; }
.pace-line { stroke: var(--_text); stroke-width: 1.5; stroke-dasharray: 4 3; }
/* Keeps the line visible on bars. */
.pace-edge { stroke: var(--_background); stroke-width: 3.5; stroke-dasharray: 4 3; }
@media not (forced-colors: active) {
  .s0 { fill: var(--_s0); }
  .s1 { fill: var(--_s1); }
  .s2 { fill: var(--_s2); }
  .s3 { fill: var(--_s3); }
  .s4 { fill: var(--_s4); }
  .s5 { fill: var(--_s5); }
}

.legend { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 190px), 1fr)); gap: 4px 28px; margin-top: 12px; padding: 0; list-style: none; font-size: 13px; }
li { display: flex; align-items: baseline; gap: 8px; min-width: 0; }
li svg { flex: none; align-self: start; margin-top: 3px; }
.name { flex: 1; min-width: 0; overflow-wrap: anywhere; }
.value { color: var(--_muted); white-space: nowrap; }
.undrawn svg { visibility: hidden; }
.notice { margin-top: 10px; font-size: 13px; color: var(--_muted); }
.without .notice {
  display: grid; place-items: center; min-height: var(--usage-meter-chart-height, 128px); padding: 12px;
  border-radius: 8px; background: var(--_prompt); text-align: center; text-wrap: balance;
}
.forecast { display: flex; gap: 8px; margin-top: 12px; padding-top: 10px; border-top: 1px solid var(--_border); font-size: 13px; }
.dot { flex: none; width: 8px; height: 8px; margin-top: 5px; border-radius: 50%; background: var(--_ok); }
.exhausts .dot { background: var(--_warning); }
.reached .dot { background: var(--_blocked); }

@container (max-width: 280px) {
  .card { padding: var(--usage-meter-padding, 14px); }
  .when { flex-basis: 100%; }
}
@container (min-width: 640px) {
  .plot { height: var(--usage-meter-chart-height, 176px); }
}
@media (forced-colors: active) {
  .series { stroke: CanvasText; stroke-width: 1; }
  .solid { fill: CanvasText; }
  .lines { stroke: CanvasText; stroke-width: 1; fill: none; }
  .grid, .base { stroke: GrayText; }
  .band { fill: Highlight; fill-opacity: 0.35; }
  .pace-line { stroke: CanvasText; }
  .pace-edge { stroke: Canvas; }
  .ghost { fill: GrayText; }
  .plot text { fill: CanvasText; }
  .forecast .dot { forced-color-adjust: none; background: CanvasText; }
}
`;

// src/chart/nodes.js
function buildNodes(element) {
  const root = element.shadowRoot ?? element.attachShadow({ mode: "open" });
  root.adoptedStyleSheets = sheetsOf(STYLE);
  const ui = {};
  const bare = (tag, className, ...children) => {
    const node = document.createElement(tag);
    if (className) node.className = className;
    node.append(...children);
    return node;
  };
  const part = (tag, name, ...children) => {
    const node = bare(tag, name, ...children);
    node.setAttribute("part", name);
    ui[name] = node;
    return node;
  };
  ui.drawing = svgNode("svg", { "aria-hidden": "true" });
  const card = part(
    "div",
    "card",
    part("p", "label"),
    ui.figures = bare("p", "figures", part("span", "count", part("span", "total"), " ", part("span", "unit")), part("span", "when")),
    part("div", "plot", ui.drawing),
    part("p", "notice"),
    part("ul", "legend"),
    part("p", "forecast", bare("span", "dot"), ui.forecastText = document.createTextNode(""))
  );
  ui.summary = bare("p", "");
  ui.table = bare("table", "");
  ui.behind = bare("div", "spoken", ui.summary, ui.table);
  [ui.label.id, ui.summary.id] = ["label", "summary"];
  for (const [name, value] of Object.entries({ role: "group", "aria-labelledby": "label", "aria-describedby": "summary" })) card.setAttribute(name, value);
  card.append(ui.behind);
  root.append(card);
  return ui;
}

// src/chart/table.js
function fillTable(table, { days, endpoints }, { caption, titles, date, number }) {
  const node = (tag, ...children) => {
    const element = document.createElement(tag);
    element.append(...children);
    return element;
  };
  const header = (scope, text) => {
    const th = node("th", text);
    th.scope = scope;
    return th;
  };
  table.replaceChildren(
    node("caption", caption),
    node("thead", node("tr", ...[...titles, ...endpoints].map((title) => header("col", title)))),
    node("tbody", ...days.map((day, i) => node(
      "tr",
      header("row", date(i)),
      ...[day.total, ...endpoints.map((name) => day.endpoints[name] ?? 0)].map((n) => node("td", number(n)))
    )))
  );
}

// src/chart/view.js
var ChartView = class {
  #element;
  #ui;
  #drawing;
  #legend;
  #data = null;
  #state = null;
  #pace = null;
  // The day that the slider has, and whether its numbers are shown instead of those of all days.
  #day = 0;
  #chosen = false;
  // What the table was made from.
  #tabled = [];
  constructor(element) {
    this.#element = element;
    const ui = this.#ui = buildNodes(element);
    this.#drawing = new Drawing(ui.drawing);
    this.#legend = new Legend(ui.legend);
    const { plot } = ui;
    const byKeyboard = () => plot.matches(":focus-visible");
    plot.addEventListener("keydown", (event) => this.#onKey(event));
    plot.addEventListener("focus", () => byKeyboard() && this.#choose(this.#day));
    plot.addEventListener("blur", () => this.#leave());
    for (const type of ["pointermove", "pointerdown"]) plot.addEventListener(type, (event) => this.#onPointer(event));
    plot.addEventListener("pointerleave", ({ pointerType }) => pointerType !== "touch" && !byKeyboard() && this.#leave());
    new ResizeObserver(() => this.#draw()).observe(plot);
  }
  show(state, history, problem) {
    const ui = this.#ui;
    const m = this.#element.messages;
    const today = this.#data?.days.at(-1).date;
    this.#state = state;
    const data = this.#data = history && state && chartData(history, state);
    this.#pace = state && evenPace(state);
    if (data && data.days.at(-1).date !== today) {
      this.#day = data.days.length - 1;
      this.#chosen = false;
    }
    const loading = !data && problem === null;
    const empty = data?.total === 0;
    const drawn = data !== null && !empty;
    const old = data && (state.stale || history.stale || problem);
    ui.card.className = ["card", loading && "loading", !drawn && !loading && "without", old && "stale"].filter(Boolean).join(" ");
    ui.card.setAttribute("aria-busy", String(loading));
    ui.label.textContent = this.#element.label ?? m.chartLabel;
    ui.figures.hidden = ui.behind.hidden = !data;
    ui.plot.hidden = !drawn && !loading;
    ui.legend.hidden = !drawn;
    ui.notice.hidden = ui.forecast.hidden = true;
    if (empty) showText(ui.notice, m.chartEmpty);
    else if (old) showText(ui.notice, m.staleSince(this.#element.locale.date(history.as_of, true)));
    else if (!data && !loading) showText(ui.notice, { off: m.chartOff, unauthorized: m.unauthorized }[problem] ?? m.unavailable);
    if (data) this.#describe(history);
    if (drawn) {
      this.#legend.show(data.series, m);
      this.#showForecast(history);
    }
    this.#draw();
    this.#showNumbers();
  }
  #describe(history) {
    const { messages: m, locale } = this.#element;
    const { unit, days, total } = this.#data;
    const [from, to] = [this.#date(0), this.#date(days.length - 1)];
    this.#ui.summary.textContent = m.chartSummary(this.#amount(total), from, to);
    const made = [history, unit, this.#state.unit_name, m, locale.tag];
    if (made.every((value, i) => value === this.#tabled[i])) return;
    this.#tabled = made;
    fillTable(this.#ui.table, this.#data, {
      caption: m.chartCaption(unitName(this.#state, unit, m, locale.count(0)), from, to),
      titles: [m.chartDate, m.chartTotal],
      date: (i) => this.#date(i),
      number: (n) => locale.number(n)
    });
  }
  #showForecast(history) {
    const { messages: m, locale } = this.#element;
    const will = forecast(this.#state, history);
    if (!will) return;
    const day = { day: "numeric", month: "long" };
    const at = will.at && new Date(will.at);
    const now = /* @__PURE__ */ new Date();
    const date = at && locale.formatDate(at, at.getFullYear() === now.getFullYear() ? day : { ...day, year: "numeric" });
    const { forecast: node, forecastText: text } = this.#ui;
    if (will.kind === "reached") text.data = m.chartReached;
    else if (will.kind === "lasts") text.data = m.chartLasts(date);
    else if (at.toDateString() === now.toDateString()) text.data = m.chartExhaustsToday(locale.formatDate(at, { hour: "numeric", minute: "2-digit" }));
    else text.data = m.chartExhausts(date);
    node.className = `forecast ${will.kind}`;
    node.hidden = false;
  }
  #showNumbers() {
    const { plot, total, unit, when } = this.#ui;
    const data = this.#data;
    const m = this.#element.messages;
    if (!data?.total) {
      for (const name of ["role", "tabindex", "aria-label", "aria-valuemin", "aria-valuemax", "aria-valuenow", "aria-valuetext"]) reflect(plot, name, null);
      if (!data) return;
    }
    const { locale } = this.#element;
    const day = data.days[this.#day];
    const shown = this.#chosen ? day.total : data.total;
    const [number, text] = [locale.number(shown), this.#amount(shown)];
    const [before, ...after] = text.split(number);
    total.textContent = after.length ? before + number : text;
    unit.textContent = after.join(number);
    when.textContent = this.#chosen ? this.#date(this.#day) : m.chartRange(locale.count(data.days.length));
    if (!data.total) return;
    this.#legend.setValues(data.series.map((s, i) => locale.number(this.#chosen ? day.parts[i] : s.total)));
    const parts = data.series.map((s, i) => [s.name ?? m.chartOther, day.parts[i]]).filter(([, n]) => n > 0).map(([name, n]) => `${name} ${locale.number(n)}`);
    for (const [name, value] of Object.entries({
      role: "slider",
      tabindex: 0,
      "aria-label": m.chartDate,
      "aria-valuemin": 1,
      "aria-valuemax": data.days.length,
      "aria-valuenow": this.#day + 1,
      "aria-valuetext": [m.chartDay(this.#date(this.#day), this.#amount(day.total)), ...parts].join(m.separator)
    })) reflect(plot, name, value);
  }
  #draw() {
    const { plot, drawing } = this.#ui;
    const [width, height] = [plot.clientWidth, plot.clientHeight];
    if (!width || !height) return;
    const data = this.#data;
    if (!data?.total) return drawGhost(drawing, width, height);
    const { messages: m, locale } = this.#element;
    const last = data.days.length - 1;
    const paced = this.#drawing.draw(data, {
      width,
      height,
      pace: this.#pace,
      rtl: this.#rtl,
      active: this.#chosen ? this.#day : null,
      number: (n) => locale.number(n, { notation: "compact" }),
      date: (i) => i === last ? m.chartToday : this.#date(i, { day: "numeric", month: "short" })
    });
    const daily = this.#state.period.per === "day";
    if (this.#pace === null) return this.#legend.hidePace();
    const perDay = locale.number(this.#pace, { maximumFractionDigits: this.#pace < 10 ? 1 : 0 });
    this.#legend.showPace(daily ? m.chartDailyLimit : paced ? m.chartPace : m.chartPaceAbove, daily ? perDay : m.chartPerDay(perDay), paced);
  }
  get #rtl() {
    return getComputedStyle(this.#element).direction === "rtl";
  }
  #amount(n) {
    const { messages: m, locale } = this.#element;
    const count = locale.count(n);
    return m.amount(count, unitName(this.#state, this.#data.unit, m, count));
  }
  #date(i, options = { weekday: "short", day: "numeric", month: "short" }) {
    return this.#element.locale.formatDate(/* @__PURE__ */ new Date(`${this.#data.days[i].date}T00:00Z`), { ...options, timeZone: "UTC" });
  }
  #choose(day) {
    if (!this.#data?.total || this.#chosen && this.#day === day) return;
    this.#day = day;
    this.#chosen = true;
    this.#showNumbers();
    this.#draw();
  }
  #leave() {
    if (!this.#chosen) return;
    this.#chosen = false;
    this.#showNumbers();
    this.#draw();
  }
  #onPointer({ clientX }) {
    this.#choose(this.#drawing.dayAt(clientX - this.#ui.drawing.getBoundingClientRect().left));
  }
  #onKey(event) {
    if (!this.#data?.total || event.altKey || event.ctrlKey || event.metaKey) return;
    const last = this.#data.days.length - 1;
    const later = this.#rtl ? "ArrowLeft" : "ArrowRight";
    const earlier = this.#rtl ? "ArrowRight" : "ArrowLeft";
    const day = {
      [later]: this.#day + 1,
      ArrowUp: this.#day + 1,
      [earlier]: this.#day - 1,
      ArrowDown: this.#day - 1,
      PageUp: this.#day + 7,
      PageDown: this.#day - 7,
      Home: 0,
      End: last
    }[event.key];
    if (event.key === "Escape") this.#leave();
    if (day === void 0) return;
    event.preventDefault();
    this.#choose(Math.max(0, Math.min(last, day)));
  }
};

// src/chart/element.js
var DEFAULT_DAYS = 30;
var MOST_DAYS = 400;
var UsageChart = class extends ClientElement {
  static observedAttributes = [...super.observedAttributes, "days", "label"];
  static earlyProperties = [...super.earlyProperties, "days", "label"];
  static timing = TIMING;
  #view;
  #feed = null;
  get days() {
    return this.#wantedDays ?? DEFAULT_DAYS;
  }
  set days(days) {
    this.setAttribute("days", String(days));
  }
  get #wantedDays() {
    const days = Number(this.getAttribute("days"));
    return Number.isInteger(days) && days >= 1 && days <= MOST_DAYS ? days : void 0;
  }
  build() {
    this.#view = new ChartView(this);
  }
  attach(client) {
    const feed = this.#feed = new HistoryFeed(client, () => this.#wantedDays, () => this.render(client));
    return [() => {
      feed.close();
      this.#feed = null;
    }];
  }
  attributeChangedCallback(name, before, after) {
    if (name === "days" && before !== after) this.#feed?.readAgain();
    super.attributeChangedCallback(name, before, after);
  }
  render(client) {
    const state = client?.current ?? null;
    this.#feed?.follow(state);
    const { history = null, problem = null } = this.#feed ?? {};
    const unreachable = !state && client?.connection === "offline";
    this.#view.show(state, history, problem ?? (unreachable ? client.problem ?? "unreachable" : null));
  }
};
reflectProperties(UsageChart, { label: "label" });

// src/chart.js
if (globalThis.customElements && !customElements.get("usage-chart")) customElements.define("usage-chart", UsageChart);
export {
  UsageChart
};
