// Code generated from src by go generate ./proxy/browser; DO NOT EDIT.

// <usage-meter> shows how much of a quota is used, live.
//
//   <script type="module" src="https://gateway.example.com/usage/meter.js"></script>
//   <usage-meter></usage-meter>
//   <script type="module">
//     document.querySelector('usage-meter').getToken = () => session.token;
//   </script>
//
// Attributes: base-url (default: where this file came from), token, label, compact,
// theme (light or dark; default: the system's), price (endpoints, separated by spaces, of
// which it says what a request costs), upgrade-url (takes precedence over the gateway's).
// Properties: client (of client.js, to share one), getToken, messages (of messages.js, to
// replace texts), and one for each attribute, such as upgradeUrl. It speaks the language of the lang attribute nearest to it.
// Event: upgrade, when the user asks for more; preventDefault keeps the upgrade URL from
// opening. Slot: upgrade, replaces the button. Parts: card, label, plan, count, used,
// limit, remaining, bar, fill, pending, carried, pool, pool-label, pool-count, pool-bar,
// pool-carried, status, attention, running, reset, price, notice, details, summary, endpoints, prompt,
// prompt-title, prompt-text, upgrade-button, dismiss. Colours and sizes: the --usage-meter-*
// properties below.
//
// It builds its nodes and its style sheet by script, so a Content-Security-Policy needs
// neither 'unsafe-inline' nor an exception for Trusted Types.


// src/meter/element.js
import { ClientElement, dispatchUpgrade, reflectProperties } from "./elements.js";

// src/meter/view.js
import { describeMeter, headlineLimit as headlineLimit3, leadToUpgrade, limitText, poolLimit as poolLimit3, reflect, showText, speak, unitName as unitName2 } from "./elements.js";

// src/meter/attention.js
import { headlineLimit, poolLimit } from "./elements.js";
var SHORT = ["minute", "hour"];
function attention(state, messages) {
  const headline = headlineLimit(state);
  const pool = poolLimit(state);
  const byName = /* @__PURE__ */ new Map();
  const note = (name, status, text) => {
    if (byName.get(name)?.status !== "blocked") byName.set(name, { status, text });
  };
  for (const l of state.limits) {
    if (l === headline || l.soft || !l.limit) continue;
    const observed = (l.endpoint ? state.endpoints[l.endpoint]?.allowed : state.allowed) === true;
    const reached = l.used >= l.limit && !observed;
    if (!reached && (l.used < l.limit * 0.8 || SHORT.includes(l.per))) continue;
    const name = l.endpoint ?? (l === pool ? messages.pool(l.per) : messages.perWindow(void 0, l.per));
    if (reached) note(name, "blocked", messages.limitOf(name, messages.blocked));
    else note(name, "warning", messages.limitOf(name, l.used < l.limit ? messages.warning : messages.softReached));
  }
  if (state.allowed) {
    for (const [name, e] of Object.entries(state.endpoints)) {
      if (e.allowed === false && e.limit !== 0) note(name, "blocked", messages.limitOf(name, messages.notEnough));
    }
  }
  const all = [...byName.values()];
  return [...all.filter((a) => a.status === "blocked"), ...all.filter((a) => a.status === "warning")];
}
function attentionText([worst, ...more], messages, locale) {
  return !worst ? "" : more.length ? messages.andMore(worst.text, locale.count(more.length)) : worst.text;
}

// src/meter/breakdown.js
import { endpointLimit, headlineLimit as headlineLimit2, poolLimit as poolLimit2, unitName } from "./elements.js";
var Breakdown = class {
  #list;
  // The list items, by the key of their row.
  #items = /* @__PURE__ */ new Map();
  constructor(list) {
    this.#list = list;
  }
  static rows(state, messages) {
    const unitOf = (unit) => (n) => unit === "units" || state.unit === "units" ? unitName(state, unit, messages, n) : "";
    const soft = (name, limit) => limit?.soft ? messages.soft(name) : name;
    const shown = /* @__PURE__ */ new Set([headlineLimit2(state), poolLimit2(state)]);
    const rows = Object.entries(state.endpoints).map(([name, e]) => {
      const limit = endpointLimit(state, name);
      shown.add(limit);
      const unit = e.limit === void 0 ? state.unit : e.unit;
      return {
        key: `endpoint ${name}`,
        name: soft(name, limit),
        used: unit === "units" ? e.units ?? 0 : e.used,
        limit: e.limit,
        unit: unitOf(unit),
        status: limit?.soft && e.status === "blocked" ? "warning" : e.status
      };
    });
    for (const l of state.limits) {
      if (shown.has(l)) continue;
      const name = messages.perWindow(l.endpoint, l.per);
      const status = l.used < l.limit ? "ok" : l.soft ? "warning" : "blocked";
      rows.push({ key: `limit ${l.name}`, name: soft(l.shared ? messages.shared(name) : name, l), used: l.used, limit: l.limit, unit: unitOf(l.unit), status });
    }
    return rows;
  }
  show(rows, total, messages, locale) {
    const seen = /* @__PURE__ */ new Set();
    for (const row of rows) {
      const item = this.#item(row.key);
      const limited = row.limit !== void 0;
      const notIncluded = row.limit === 0;
      item.li.className = [!notIncluded && row.status, (row.unit() || notIncluded) && "wide"].filter(Boolean).join(" ");
      item.name.textContent = row.name;
      const [used, limit] = [locale.count(row.used), limited ? locale.count(row.limit) : null];
      item.value.textContent = notIncluded ? messages.notIncluded : limited ? messages.of(used, limit, row.unit(limit)) : messages.amount(used, row.unit(used));
      const share = row.used / ((limited ? row.limit : total) || 1);
      item.bar.style.setProperty("--_used", `${Math.min(1, share) * 100}%`);
      item.bar.style.setProperty("--_least", row.used > 0 ? "4px" : "0");
      const position = this.#list.children[seen.size] ?? null;
      if (position !== item.li) this.#list.insertBefore(item.li, position);
      seen.add(row.key);
    }
    for (const [key, { li }] of this.#items) {
      if (seen.has(key)) continue;
      li.remove();
      this.#items.delete(key);
    }
  }
  #item(key) {
    let item = this.#items.get(key);
    if (!item) {
      const li = document.createElement("li");
      const [name, bar, fill, value] = ["span", "span", "span", "span"].map((tag) => document.createElement(tag));
      [name.className, bar.className, fill.className, value.className] = ["name", "bar", "fill", "value"];
      bar.setAttribute("aria-hidden", "true");
      bar.append(fill);
      li.append(name, bar, value);
      item = { li, name, bar, value };
      this.#items.set(key, item);
    }
    return item;
  }
};

// src/meter/nodes.js
import { nodeBuilder, sheetsOf } from "./elements.js";

// src/meter/style.js
var STYLE = `
.card {
  --_status: var(--_ok);
  --_status-text: var(--_muted);
  padding: var(--usage-meter-padding, 20px);
  background: var(--_background);
  border: 1px solid var(--_border);
  border-radius: var(--usage-meter-radius, 12px);
  box-shadow: var(--_shadow);
}
.warning { --_status: var(--_warning); --_status-text: var(--_warning-text); }
.blocked { --_status: var(--_blocked); --_status-text: var(--_blocked-text); }
.card.stale, .card.empty { --_status: var(--_muted); }

.row { display: flex; align-items: baseline; justify-content: space-between; gap: 4px 12px; flex-wrap: wrap; }
.label { font-weight: 500; color: var(--_muted); }
.plan {
  padding: 1px 8px; border: 1px solid var(--_border); border-radius: 99px;
  font-size: 12px; line-height: 18px; color: var(--_muted); text-transform: capitalize;
}
.figures { margin-top: 6px; }
.used { font-size: 30px; line-height: 38px; font-weight: 600; letter-spacing: -0.02em; }
.limit, .remaining { color: var(--_muted); }
.stale .used, .empty .used { color: var(--_muted); }

.bar {
  display: flex; overflow: hidden; margin-top: 10px;
  height: var(--usage-meter-bar-height, 8px);
  border-radius: 99px; background: var(--_track);
}
.fill, .pending { flex: none; transition: width 450ms cubic-bezier(0.2, 0.7, 0.2, 1), background-color 250ms; }
.fill {
  width: var(--_used, 0%); min-width: var(--_least, 0);
  border-radius: inherit; background-color: var(--_status);
}
.fill { position: relative; }
/* Begins under the rounded end of the filled part. */
.pending {
  width: calc(var(--_pending, 0%) + 6px); margin-inline-start: -6px; visibility: hidden;
  background-color: color-mix(in srgb, var(--_status) 42%, var(--_track)); border-start-end-radius: 99px; border-end-end-radius: 99px;
}
.pending.some { visibility: visible; min-width: 12px; animation: breathe 1.6s ease-in-out infinite; }
.stale .fill { opacity: 0.55; }
.loading .bar { animation: breathe-track 1.6s ease-in-out infinite; }
@keyframes breathe { 50% { opacity: 0.45; } }
@keyframes breathe-track { 50% { opacity: 0.5; } }

.pool { --_status: var(--_ok); margin-top: 14px; font-size: 13px; color: var(--_muted); }
.pool.blocked { --_status: var(--_blocked); }
.pool.blocked .pool-count { color: var(--_blocked-text); }
.pool-bar { display: flex; overflow: hidden; margin-top: 6px; height: 6px; border-radius: 99px; background: var(--_track); }
.stale .pool { --_status: var(--_muted); }

.foot { margin-top: 10px; font-size: 13px; color: var(--_muted); }
.foot > span:first-child { display: inline-flex; flex-wrap: wrap; gap: 0 12px; }
.status { display: inline-flex; align-items: center; gap: 6px; font-weight: 500; color: var(--_status-text); }
.dot { flex: none; width: 8px; height: 8px; border-radius: 50%; background: var(--_status); }
/* What is used up beside the headline. The card has at most the colour of a warning for it. */
.attention { overflow-wrap: anywhere; }
.stale .attention { --_status: var(--_muted); --_status-text: var(--_muted); }
.running { margin-inline-start: auto; display: inline-flex; align-items: center; gap: 6px; }
.running .dot { background: var(--_muted); animation: breathe 1.6s ease-in-out infinite; }
.price, .notice, .carried, .pool-carried { margin-top: 8px; font-size: 13px; color: var(--_muted); }

details { margin-top: 14px; padding-top: 10px; border-top: 1px solid var(--_border); font-size: 13px; }
summary {
  display: flex; align-items: center; gap: 6px; width: fit-content; min-height: 24px;
  color: var(--_muted); font-weight: 500; cursor: pointer; list-style: none; border-radius: 4px;
}
summary:hover { color: var(--_text); }
summary::-webkit-details-marker { display: none; }
summary::before {
  content: ""; width: 6px; height: 6px; margin-inline: 1px 3px; flex: none;
  border: solid currentColor; border-width: 0 1.5px 1.5px 0;
  transform: rotate(-45deg); transition: transform 150ms;
}
summary:dir(rtl)::before { transform: rotate(135deg); }
details[open] summary::before { transform: rotate(45deg); }
ul { list-style: none; padding: 8px 0 2px; display: grid; gap: 8px; }
li { display: grid; grid-template-columns: minmax(0, 1fr) 72px minmax(64px, auto); align-items: center; gap: 12px; }
li.wide { grid-template-columns: minmax(0, 1fr) auto; gap: 3px 12px; }
li.wide .bar { order: 1; grid-column: 1 / -1; }
li .name { overflow-wrap: anywhere; }
li .value { text-align: end; color: var(--_muted); }
li .bar { margin: 0; height: 4px; }
li .fill { background-color: var(--_row, var(--_muted)); border-radius: inherit; }
li.ok { --_row: var(--_ok); }
li.warning { --_row: var(--_warning); }
li.blocked { --_row: var(--_blocked); }
li.warning .value { color: var(--_warning-text); }
li.blocked .value { color: var(--_blocked-text); }
.stale li { --_row: var(--_muted); }

.prompt {
  display: flex; flex-wrap: wrap; align-items: center; justify-content: space-between; gap: 12px;
  position: relative; margin-top: 16px; padding: 12px 14px; padding-inline-end: 38px;
  border-radius: 8px; background: var(--_prompt);
  animation: appear 250ms ease-out;
}
.prompt > div { flex: 1 1 180px; }
.prompt .dismiss { position: absolute; inset-block-start: 8px; inset-inline-end: 8px; }
.prompt-title { font-weight: 600; }
.prompt-text { margin-top: 2px; font-size: 13px; color: var(--_muted); }
@keyframes appear { from { opacity: 0; transform: translateY(4px); } }

/* Two lines and a bar between them, for a sidebar. */
:host([compact]) { font-size: 13px; }
:host([compact]) .card {
  display: flex; flex-wrap: wrap; align-items: center; gap: 6px 8px;
  padding: var(--usage-meter-padding, 0); border: 0; border-radius: 0; box-shadow: none;
  background: var(--usage-meter-background, transparent);
}
:host([compact]) .card > * { margin: 0; }
:host([compact]) .figures, :host([compact]) .bar { flex: 1 0 100%; }
:host([compact]) .figures { flex-wrap: nowrap; min-width: 0; }
:host([compact]) .label { min-width: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
:host([compact]) .count { white-space: nowrap; }
:host([compact]) .used { font-size: inherit; line-height: inherit; letter-spacing: 0; font-weight: 500; }
:host([compact]) .bar { height: var(--usage-meter-bar-height, 4px); }
:host([compact]) .foot, :host([compact]) .price, :host([compact]) .notice { font-size: 12px; }
:host([compact]) .prompt { flex-wrap: nowrap; gap: 4px; margin-inline-start: auto; padding: 0; background: none; }
:host([compact]) .dismiss { position: relative; inset: auto; }
/* The reason is read out, and shown when the mouse rests on the button. */
:host([compact]) .prompt > div { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
:host([compact]) .button { padding: 2px 10px; border-radius: 6px; font-size: 12px; }

@media (forced-colors: active) {
  .bar, .pool-bar { border: 1px solid CanvasText; background: Canvas; }
  .fill, .dot { forced-color-adjust: none; background-color: CanvasText; }
  .blocked .fill { background-color: Mark; }
  .pending { forced-color-adjust: none; background-color: GrayText; opacity: 1; }
  .prompt { border: 1px solid CanvasText; }
}
`;

// src/meter/nodes.js
function buildNodes(element, { onUpgrade, onDismiss, onSlotChange }) {
  const root = element.shadowRoot ?? element.attachShadow({ mode: "open" });
  root.adoptedStyleSheets = sheetsOf(STYLE);
  const { ui, bare, part, text, spoken, upgradeSlot, cross } = nodeBuilder();
  const time = ui.time = document.createElement("time");
  const slot = upgradeSlot(onUpgrade);
  slot.addEventListener("slotchange", onSlotChange);
  const card = part(
    "div",
    "card",
    ui.head = bare("div", "row", part("span", "label"), part("span", "plan")),
    ui.figures = bare(
      "div",
      "row figures",
      part("span", "count", part("span", "used"), part("span", "limit")),
      part("span", "remaining")
    ),
    part("div", "bar", part("div", "fill"), part("div", "pending")),
    part("p", "carried"),
    part("div", "pool", bare("div", "row", part("span", "pool-label"), part("span", "pool-count")), part("div", "pool-bar", bare("div", "fill")), part("p", "pool-carried")),
    ui.foot = bare(
      "div",
      "row foot",
      bare(
        "span",
        "",
        part("span", "status", bare("span", "dot"), text("statusText")),
        part("span", "attention", bare("span", "dot"), text("attentionText")),
        part("span", "reset", text("resetText"), " ", time)
      ),
      part("span", "running", bare("span", "dot"), text("runningText"))
    ),
    part("p", "price"),
    part("p", "notice"),
    part("div", "prompt", bare("div", "", part("p", "prompt-title"), part("p", "prompt-text")), slot, cross(onDismiss)),
    part("details", "details", part("summary", "summary"), part("ul", "endpoints"))
  );
  root.append(card, spoken());
  return ui;
}

// src/meter/view.js
function shownStatus(state) {
  return state.status === "blocked" && headlineLimit3(state)?.soft ? "warning" : state.status;
}
function cardStatus(state, others) {
  const status = state.limit === null ? "ok" : shownStatus(state);
  return status === "ok" && others.length ? "warning" : status;
}
var MeterView = class {
  #element;
  #ui;
  #locale;
  #breakdown;
  #say;
  #spokenStatus = null;
  #spokenOthers = "";
  // Whether the user has dismissed the prompt. The next refusal shows it again.
  #dismissed = false;
  constructor(element, handlers) {
    this.#element = element;
    this.#ui = buildNodes(element, handlers);
    this.#locale = element.locale;
    this.#breakdown = new Breakdown(this.#ui.endpoints);
    this.#say = handlers.say;
  }
  forgetStatus() {
    this.#spokenStatus = null;
    this.#dismissed = false;
  }
  show(client) {
    const ui = this.#ui;
    const m = this.#element.messages;
    const state = client?.current ?? null;
    const compact = this.#element.compact;
    const inUnits = state?.unit === "units";
    const label = this.#element.label ?? (!compact ? m.label(state?.period.per) : inUnits ? m.compactUnits(unitName2(state, "units", m)) : m.compactLabel);
    ui.label.textContent = label;
    if (compact !== (ui.label.parentNode === ui.figures)) (compact ? ui.figures : ui.head).prepend(ui.label);
    ui.head.hidden = compact;
    const failed = !state && client?.connection === "offline";
    const limited = state !== null && state.limit !== null;
    const others = state ? attention(state, m) : [];
    ui.card.className = [
      "card",
      state ? cardStatus(state, others) : "ok",
      state?.stale && "stale",
      !state && "empty",
      !state && !failed && "loading"
    ].filter(Boolean).join(" ");
    ui.card.setAttribute("aria-busy", String(!state && !failed));
    for (const name of ["plan", "remaining", "carried", "status", "attention", "reset", "running", "pool", "price", "notice", "prompt", "details"]) ui[name].hidden = true;
    ui.bar.hidden = state !== null && !limited;
    if (state) this.#showState(state, label, others);
    else this.#showNothing(failed ? client.problem : void 0);
  }
  #showNothing(problem) {
    const ui = this.#ui;
    const m = this.#element.messages;
    ui.used.textContent = "–";
    ui.limit.textContent = "";
    ui.foot.hidden = true;
    this.#fillBar(0, 0);
    describeMeter(ui.bar, null);
    if (problem !== void 0) showText(ui.notice, problem === "unauthorized" ? m.unauthorized : m.unavailable);
    this.#spokenStatus = null;
  }
  #showState(state, label, others) {
    const ui = this.#ui;
    const m = this.#element.messages;
    const locale = this.#locale;
    const compact = this.#element.compact;
    const { limit } = state;
    const limited = limit !== null;
    showText(ui.plan, state.plan);
    const inUnits = state.unit === "units";
    const unitOf = (n) => inUnits ? unitName2(state, "units", m, n) : "";
    const [used, all, pending] = [state.used, limit ?? 0, state.pending].map((n) => locale.count(n));
    const count = limited ? m.used(used, all, unitOf(all)) : m.usedOnly(used, unitOf(used));
    const running = !state.pending ? "" : inUnits ? m.held(pending, compact ? "" : unitOf(pending)) : m.running(pending);
    if (compact) {
      ui.used.textContent = limited ? m.compact(used, all, this.#element.label && unitOf(all)) : count;
      ui.limit.textContent = running && m.separator + running;
    } else {
      const [before, ...after] = count.split(String(used));
      ui.used.textContent = after.length ? before + used : before;
      ui.limit.textContent = after.join(String(used));
      showText(ui.remaining, limited ? m.remaining(locale.count(state.remaining)) : m.unlimited);
      if (running) {
        ui.runningText.data = running;
        ui.running.hidden = false;
      }
    }
    const blocked = shownStatus(state) === "blocked" ? m.blocked : m.softReached;
    const words = !limited ? "" : limit === 0 ? m.notIncluded : { warning: m.warning, blocked }[state.status] ?? "";
    if (words) {
      ui.statusText.data = words;
      ui.status.hidden = false;
    }
    const other = shownStatus(state) === "blocked" && !state.allowed ? "" : attentionText(others, m, locale);
    if (other) {
      ui.attentionText.data = other;
      ui.attention.className = `attention status ${others[0].status}`;
      ui.attention.hidden = false;
    }
    const { end } = state.period;
    const reset = end ? locale.date(end) : "";
    const resets = end ? `${m.resets} ${reset}` : limited && m.neverRenews;
    if (!compact && resets) {
      ui.resetText.data = end ? m.resets : m.neverRenews;
      ui.time.textContent = reset;
      reflect(ui.time, "datetime", end);
      ui.reset.hidden = false;
    }
    const carried = this.#carried(headlineLimit3(state), unitOf);
    if (carried && !compact) showText(ui.carried, carried);
    ui.foot.hidden = compact && !words && !other;
    this.#fillBar(limit ? Math.min(1, state.used / limit) : Number(limited), limit ? state.pending / limit : 0);
    const sentence = [count, carried, running, words, other, state.stale && m.stale, resets];
    describeMeter(ui.bar, limit ? { now: Math.min(state.used, limit), max: limit, label, text: sentence.filter(Boolean).join(m.separator) } : null);
    if (state.stale) showText(ui.notice, compact ? m.stale : m.staleSince(locale.date(state.as_of, true)));
    this.#showPool(state);
    const prices = this.#prices(state);
    if (prices) showText(ui.price, prices);
    this.#showPrompt(state);
    this.#showBreakdown(state);
    this.#sayChange(state.status, words ? m.statusChanged(words, count) : count, other);
  }
  #sayChange(status, words, other) {
    const changed = [
      status !== this.#spokenStatus && words,
      other !== this.#spokenOthers && other
    ].filter(Boolean);
    if (this.#spokenStatus !== null && changed.length) this.#say(changed.join(this.#element.messages.separator));
    this.#spokenStatus = status;
    this.#spokenOthers = other;
  }
  #fillBar(used, pending) {
    const { bar, pending: part } = this.#ui;
    bar.style.setProperty("--_used", `${used * 100}%`);
    bar.style.setProperty("--_least", used > 0 ? "6px" : "0");
    bar.style.setProperty("--_pending", `${Math.min(1, pending) * 100}%`);
    part.classList.toggle("some", pending > 0);
  }
  #carried(limit, unitOf) {
    if (!limit?.carried) return "";
    const n = this.#locale.count(limit.carried);
    return this.#element.messages.carried(n, unitOf(n), limit.per);
  }
  #showPool(state) {
    const { pool, "pool-label": label, "pool-count": count, "pool-bar": bar, "pool-carried": note } = this.#ui;
    const l = poolLimit3(state);
    pool.hidden = this.#element.compact || !l;
    if (pool.hidden) return;
    const m = this.#element.messages;
    const unitOf = (n) => l.unit === "units" || state.unit === "units" ? unitName2(state, l.unit, m, n) : "";
    const [used, all] = [l.used, l.limit].map((n) => this.#locale.count(n));
    pool.className = `pool ${l.used < l.limit || l.soft ? "ok" : "blocked"}`;
    label.textContent = l.soft ? m.soft(m.pool(l.per)) : m.pool(l.per);
    count.textContent = m.of(used, all, unitOf(all));
    bar.style.setProperty("--_used", `${l.limit ? Math.min(1, l.used / l.limit) * 100 : 100}%`);
    bar.style.setProperty("--_least", l.used > 0 ? "6px" : "0");
    const carried = this.#carried(l, unitOf);
    showText(note, carried);
    note.hidden = !carried;
    const sentence = [m.used(used, all, unitOf(all)), carried];
    describeMeter(bar, l.limit ? { now: Math.min(l.used, l.limit), max: l.limit, label: label.textContent, text: sentence.filter(Boolean).join(m.separator) } : null);
  }
  #prices(state) {
    if (state.limits.length && !state.limits.some((l) => l.unit === "units")) return "";
    const m = this.#element.messages;
    return (this.#element.price ?? "").split(/\s+/).map((name) => [name, state.endpoints[name]?.cost]).filter(([, cost]) => cost).map(([name, cost]) => {
      const [min, max] = [cost.min, cost.max].map((n) => this.#locale.count(n));
      return m.price(name, min, max, unitName2(state, "units", m, max));
    }).join(m.separator);
  }
  #showPrompt(state) {
    const { slot, prompt, "prompt-title": title, "prompt-text": text, "upgrade-button": button, buttonText, dismiss } = this.#ui;
    const m = this.#element.messages;
    const { compact } = this.#element;
    const blocked = state.limit !== null && state.status === "blocked" && !state.allowed;
    if (state.refused || !blocked) this.#dismissed = false;
    if (this.#dismissed || !state.refused && !blocked) return;
    prompt.hidden = false;
    title.textContent = state.refused ? m.refusedTitle : state.limit === 0 ? m.notIncluded : m.promptTitle;
    const reason = limitText(state, m, this.#locale);
    text.textContent = reason;
    buttonText.data = m.upgrade;
    reflect(prompt, "title", compact ? `${title.textContent}. ${reason}` : null);
    const leads = leadToUpgrade(this.#element, button, state);
    dismiss.setAttribute("aria-label", m.dismiss);
    dismiss.hidden = compact && !state.refused;
    if (compact && !state.refused && !leads && !slot.assignedNodes().length) prompt.hidden = true;
  }
  dismiss() {
    this.#dismissed = true;
  }
  #showBreakdown(state) {
    const { details, summary } = this.#ui;
    const m = this.#element.messages;
    const rows = Breakdown.rows(state, m);
    details.hidden = this.#element.compact || !rows.length;
    if (details.hidden) return;
    summary.textContent = m.breakdown;
    this.#breakdown.show(rows, state.used, m, this.#locale);
  }
  refusalText(state) {
    const m = this.#element.messages;
    return `${m.refusedTitle}. ${limitText(state, m, this.#locale)}`;
  }
  speak(words) {
    speak(this.#ui.spoken, words);
  }
};

// src/meter/element.js
var metersOf = /* @__PURE__ */ new WeakMap();
var UsageMeter = class extends ClientElement {
  static observedAttributes = [...super.observedAttributes, "label", "compact", "price", "upgrade-url"];
  static earlyProperties = [...super.earlyProperties, "label", "compact", "price", "upgradeUrl"];
  #view = null;
  // The client that is followed.
  #client = null;
  get compact() {
    return this.hasAttribute("compact");
  }
  set compact(value) {
    this.toggleAttribute("compact", Boolean(value));
  }
  build() {
    this.#view = new MeterView(this, {
      onUpgrade: (event) => dispatchUpgrade(this, event, this.#client?.current ?? null),
      onDismiss: () => this.#dismiss(),
      onSlotChange: () => this.render(this.#client),
      say: (words) => this.#say(words)
    });
  }
  attach(client) {
    this.#client = client;
    this.#view.forgetStatus();
    const meters = metersOf.get(client) ?? /* @__PURE__ */ new Set();
    metersOf.set(client, meters.add(this));
    const sayRefused = ({ detail }) => this.#say(this.#view.refusalText(detail));
    client.addEventListener("usage-exceeded", sayRefused);
    return [
      () => client.removeEventListener("usage-exceeded", sayRefused),
      () => meters.delete(this)
    ];
  }
  render(client) {
    this.#view.show(client);
  }
  #dismiss() {
    this.#view.dismiss();
    this.#client.dismiss();
    this.render(this.#client);
  }
  #say(words) {
    const [first] = metersOf.get(this.#client) ?? [];
    if (first === this) this.#view.speak(words);
  }
};
reflectProperties(UsageMeter, { label: "label", price: "price", upgradeUrl: "upgrade-url" });

// src/meter.js
if (globalThis.customElements && !customElements.get("usage-meter")) customElements.define("usage-meter", UsageMeter);
export {
  UsageMeter
};
