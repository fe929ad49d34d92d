// <usage-meter>: how much of a quota is used, live.
//
//   <script type="module" src="https://gateway.example.com/usage/meter.js"></script>
//   <usage-meter></usage-meter>
//   <script type="module">
//     document.querySelector('usage-meter').getToken = () => session.token;
//   </script>
//
// Attributes: base-url (default: where this file came from), token, label, compact,
// theme (light or dark; default: the system's), upgrade-url (goes before the
// gateway's). Properties: client (of client.js, to share one), getToken, messages (to
// translate). Event: upgrade, when somebody asks for more; preventDefault keeps the
// upgrade URL closed. Slot: upgrade, in the place of the button. Parts: card, label,
// plan, count, used, limit, remaining, bar, fill, pending, status, running, reset,
// notice, details, summary, endpoints, prompt, prompt-title, prompt-text,
// upgrade-button. Colours and sizes: the --usage-meter-* properties below.
//
// It builds its nodes and its style sheet by script: it needs neither 'unsafe-inline'
// nor an exception for Trusted Types.

import { createUsageClient } from './client.js';

/** The words. Numbers and dates come in the locale of the page. */
const MESSAGES = {
  compactLabel: 'Usage',
  label: (per) => ({ minute: 'Usage this minute', hour: 'Usage this hour', day: 'Usage today', week: 'Usage this week', month: 'Usage this month', year: 'Usage this year' })[per] ?? 'Usage',
  used: (used, limit) => `${used} of ${limit} used`,
  usedOnly: (used) => `${used} used`,
  compact: (used, limit) => `${used}/${limit}`,
  remaining: (n) => `${n} left`,
  running: (n) => `${n} running`,
  unlimited: 'Unlimited',
  warning: 'Almost used up',
  blocked: 'Limit reached',
  notIncluded: 'Not in this plan',
  resets: 'Resets',
  stale: 'Not up to date',
  staleSince: (time) => `Not up to date, as of ${time}`,
  loading: 'Loading usage',
  unavailable: 'Usage is not available right now',
  unauthorized: 'Sign in to see your usage',
  breakdown: 'By endpoint',
  of: (used, limit) => `${used} of ${limit}`,
  perWindow: (endpoint, per) => `${endpoint ?? 'all'}, this ${per}`,
  promptTitle: 'Limit reached',
  refusedTitle: 'The call was refused',
  limitReached: (limit, endpoint, per) => `All ${limit} ${endpoint ? `${endpoint} calls` : 'calls'} of this ${per} are used.`,
  limitEmpty: (endpoint) => `${endpoint ? `The endpoint ${endpoint} is` : 'Calls are'} not in this plan.`,
  limitHeld: 'Calls that are running hold the last ones. Try again in a moment.',
  renews: (when) => `Renews ${when}.`,
  upgrade: 'Upgrade',
};

const LIGHT = `
  color-scheme: light;
  --_background: var(--usage-meter-background, #ffffff);
  --_border: var(--usage-meter-border-color, #e3e6ea);
  --_text: var(--usage-meter-text-color, #15181d);
  --_muted: var(--usage-meter-muted-color, #5b6472);
  --_track: var(--usage-meter-track-color, #f0f2f5);
  --_ok: var(--usage-meter-color-ok, #1c8c4e);
  --_warning: var(--usage-meter-color-warning, #b98100);
  --_blocked: var(--usage-meter-color-blocked, #d92626);
  --_warning-text: var(--usage-meter-text-warning, #855700);
  --_blocked-text: var(--usage-meter-text-blocked, #b91c1c);
  --_prompt: var(--usage-meter-prompt-background, #f7f8fa);
  --_button: var(--usage-meter-button-background, #15181d);
  --_button-text: var(--usage-meter-button-color, #ffffff);
  --_shadow: var(--usage-meter-shadow, 0 1px 2px rgb(16 24 40 / 5%));
`;

const DARK = `
  color-scheme: dark;
  --_background: var(--usage-meter-background, #15171c);
  --_border: var(--usage-meter-border-color, #2a2e36);
  --_text: var(--usage-meter-text-color, #f1f3f5);
  --_muted: var(--usage-meter-muted-color, #9aa3b2);
  --_track: var(--usage-meter-track-color, #262a32);
  --_ok: var(--usage-meter-color-ok, #3ecf82);
  --_warning: var(--usage-meter-color-warning, #f2c14e);
  --_blocked: var(--usage-meter-color-blocked, #f47070);
  --_warning-text: var(--usage-meter-text-warning, #f2c14e);
  --_blocked-text: var(--usage-meter-text-blocked, #ff8f8f);
  --_prompt: var(--usage-meter-prompt-background, #1d2027);
  --_button: var(--usage-meter-button-background, #f1f3f5);
  --_button-text: var(--usage-meter-button-color, #15171c);
  --_shadow: var(--usage-meter-shadow, none);
`;

const STYLE = `
:host {
  ${LIGHT}
  display: block;
  font: 400 14px/1.43 var(--usage-meter-font, system-ui, -apple-system, "Segoe UI", Roboto, sans-serif);
  font-variant-numeric: tabular-nums;
  color: var(--_text);
  text-align: start;
}
@media (prefers-color-scheme: dark) { :host(:not([theme="light"])) { ${DARK} } }
:host([theme="dark"]) { ${DARK} }
:host([hidden]), [hidden] { display: none !important; }
* { box-sizing: border-box; margin: 0; }

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
/* Begins under the round end of what is used. */
.pending {
  width: calc(var(--_pending, 0%) + 6px); margin-inline-start: -6px; visibility: hidden;
  background-color: color-mix(in srgb, var(--_status) 42%, var(--_track)); border-radius: 0 99px 99px 0;
}
.pending.some { visibility: visible; min-width: 12px; animation: breathe 1.6s ease-in-out infinite; }
.stale .fill { opacity: 0.55; }
.loading .bar { animation: breathe-track 1.6s ease-in-out infinite; }
@keyframes breathe { 50% { opacity: 0.45; } }
@keyframes breathe-track { 50% { opacity: 0.5; } }

.foot { margin-top: 10px; font-size: 13px; color: var(--_muted); }
.foot > span:first-child { display: inline-flex; flex-wrap: wrap; gap: 0 12px; }
.status { display: inline-flex; align-items: center; gap: 6px; font-weight: 500; color: var(--_status-text); }
.dot { flex: none; width: 8px; height: 8px; border-radius: 50%; background: var(--_status); }
.running { margin-inline-start: auto; display: inline-flex; align-items: center; gap: 6px; }
.running .dot { background: var(--_muted); animation: breathe 1.6s ease-in-out infinite; }
.notice { margin-top: 8px; font-size: 13px; color: var(--_muted); }

details { margin-top: 14px; padding-top: 10px; border-top: 1px solid var(--_border); font-size: 13px; }
summary {
  display: flex; align-items: center; gap: 6px; width: fit-content; min-height: 24px;
  color: var(--_muted); font-weight: 500; cursor: pointer; list-style: none; border-radius: 4px;
}
summary:hover { color: var(--_text); }
summary::-webkit-details-marker { display: none; }
summary::before {
  content: ""; width: 6px; height: 6px; margin: 0 3px 0 1px; flex: none;
  border: solid currentColor; border-width: 0 1.5px 1.5px 0;
  transform: rotate(-45deg); transition: transform 150ms;
}
details[open] summary::before { transform: rotate(45deg); }
ul { list-style: none; padding: 8px 0 2px; display: grid; gap: 8px; }
li { display: grid; grid-template-columns: minmax(0, 1fr) 72px minmax(64px, auto); align-items: center; gap: 12px; }
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
  margin-top: 16px; padding: 12px 14px; border-radius: 8px; background: var(--_prompt);
  animation: appear 250ms ease-out;
}
.prompt > div { flex: 1 1 180px; }
.prompt-title { font-weight: 600; }
.prompt-text { font-size: 13px; color: var(--_muted); }
@keyframes appear { from { opacity: 0; transform: translateY(4px); } }
.button {
  flex: none; padding: 7px 14px; border-radius: 7px;
  font: inherit; font-weight: 500; line-height: 20px; text-decoration: none;
  background: var(--_button); color: var(--_button-text); transition: opacity 150ms;
}
.button:hover { opacity: 0.86; }
:focus-visible { outline: 2px solid var(--usage-meter-focus-color, currentColor); outline-offset: 2px; }

/* Two lines and a bar between them, for a sidebar. */
:host([compact]) { font-size: 13px; }
:host([compact]) .card {
  display: flex; flex-wrap: wrap; align-items: center; gap: 6px 8px;
  padding: var(--usage-meter-padding, 0); border: 0; border-radius: 0; box-shadow: none;
  background: var(--usage-meter-background, transparent);
}
:host([compact]) .card > * { margin: 0; }
:host([compact]) .figures, :host([compact]) .bar { flex: 1 0 100%; }
:host([compact]) .figures { flex-wrap: nowrap; }
:host([compact]) .label { min-width: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
:host([compact]) .count { white-space: nowrap; }
:host([compact]) .used { font-size: inherit; line-height: inherit; letter-spacing: 0; font-weight: 500; }
:host([compact]) .bar { height: var(--usage-meter-bar-height, 4px); }
:host([compact]) .foot, :host([compact]) .notice { font-size: 12px; }
:host([compact]) .prompt { margin-inline-start: auto; padding: 0; background: none; }
:host([compact]) .prompt > div { display: none; }
:host([compact]) .button { padding: 2px 10px; border-radius: 6px; font-size: 12px; }

.spoken { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }

@media (prefers-reduced-motion: reduce) {
  *, ::before { animation: none !important; transition: none !important; }
}
@media (forced-colors: active) {
  .bar { border: 1px solid CanvasText; background: Canvas; }
  .fill, .dot { forced-color-adjust: none; background-color: CanvasText; }
  .blocked .fill { background-color: Mark; }
  .pending { forced-color-adjust: none; background-color: GrayText; opacity: 1; }
  .prompt { border: 1px solid CanvasText; }
  .button { border: 1px solid LinkText; }
}
`;

let sheet;

/** Meters of one client: the first of them speaks. */
const audience = new WeakMap();

// A page that is rendered on a server has no elements.
export class UsageMeter extends (globalThis.HTMLElement ?? class {}) {
  static observedAttributes = ['base-url', 'token', 'label', 'compact', 'upgrade-url'];

  #client = null; // the one that is followed
  #given = null; // by property
  #getToken = null;
  #messages = MESSAGES;
  #off = []; // ends what was begun for #client
  #ui = null;
  #rows = new Map();
  #status = null; // that was shown last
  #scheduled = false;

  constructor() {
    super();
    // Properties that were set before this class was there.
    for (const name of ['client', 'getToken', 'messages', 'token', 'baseUrl', 'label', 'compact']) {
      if (!Object.hasOwn(this, name)) continue;
      const value = this[name];
      delete this[name];
      this.#early.push(() => { this[name] = value; });
    }
  }

  #early = []; // a constructor may not set attributes

  /** The client that is followed. Set it to share one; null: the element makes its own. */
  get client() { return this.#given ?? this.#client; }
  set client(client) {
    this.#given = client ?? null;
    this.#schedule();
  }

  /** As of createUsageClient. */
  get getToken() { return this.#getToken; }
  set getToken(getToken) {
    this.#getToken = getToken ?? null;
    this.#schedule();
  }

  /** Words that replace the English ones, all or some: see MESSAGES. */
  get messages() { return this.#messages; }
  set messages(messages) {
    this.#messages = { ...MESSAGES, ...messages };
    this.#show();
  }

  get baseUrl() { return this.getAttribute('base-url'); }
  set baseUrl(value) { reflect(this, 'base-url', value); }
  get token() { return this.getAttribute('token'); }
  set token(value) { reflect(this, 'token', value); }
  get label() { return this.getAttribute('label'); }
  set label(value) { reflect(this, 'label', value); }
  get compact() { return this.hasAttribute('compact'); }
  set compact(value) { this.toggleAttribute('compact', Boolean(value)); }

  connectedCallback() {
    for (const set of this.#early.splice(0)) set();
    this.#ui ??= this.#build();
    this.#show();
    this.#schedule();
  }

  disconnectedCallback() { this.#schedule(); }

  attributeChangedCallback(name, before, after) {
    if (before === after) return;
    if (name === 'base-url' || (name === 'token' && !this.#getToken)) this.#schedule();
    this.#show();
  }

  /** Follows the right client once all that is being set is set. */
  #schedule() {
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      this.#follow();
    });
  }

  #follow() {
    const wanted = this.isConnected
      ? this.#given ?? `${this.baseUrl}\n${this.#getToken ? '' : this.token}`
      : null;
    if (wanted === this.#following && this.#getToken === this.#askedOf) return;
    for (const off of this.#off.splice(0)) off();
    this.#client = null;
    this.#following = wanted;
    this.#askedOf = this.#getToken;
    this.#status = null;
    if (wanted === null) return;
    let client = this.#given;
    if (!client) {
      const token = this.token;
      client = createUsageClient({
        baseUrl: this.baseUrl ?? undefined,
        getToken: this.#getToken ?? (token === null ? undefined : () => token),
      });
      this.#off.push(() => client.close());
    }
    this.#client = client;
    const meters = audience.get(client) ?? new Set();
    audience.set(client, meters.add(this));
    const refused = ({ detail }) => this.#say(`${this.#messages.refusedTitle}. ${this.#reason(detail)}`);
    const show = () => this.#show();
    client.addEventListener('connection', show);
    client.addEventListener('usage-exceeded', refused);
    this.#off.push(
      client.subscribe(show),
      () => client.removeEventListener('connection', show),
      () => client.removeEventListener('usage-exceeded', refused),
      () => meters.delete(this),
    );
    this.#show();
  }

  #following = null;
  #askedOf = null;

  #build() {
    const root = this.shadowRoot ?? this.attachShadow({ mode: 'open' });
    sheet ??= makeSheet();
    root.adoptedStyleSheets = [sheet];
    const ui = {};
    /** Makes a node that is kept under its class and is a part of that name. */
    const h = (tag, name, ...children) => {
      const node = document.createElement(tag);
      if (name) {
        node.className = name;
        node.setAttribute('part', name);
        ui[name] = node;
      }
      node.append(...children);
      return node;
    };
    const bare = (tag, className, ...children) => {
      const node = document.createElement(tag);
      node.className = className;
      node.append(...children);
      return node;
    };
    const text = (name) => (ui[name] = document.createTextNode(''));
    const time = (ui.time = document.createElement('time'));
    const button = h('a', 'upgrade-button', text('buttonText'));
    button.classList.add('button');
    button.target = '_blank';
    button.rel = 'noopener';
    button.addEventListener('click', (event) => {
      const detail = { url: button.href, state: this.#client?.current ?? null };
      const upgrade = new CustomEvent('upgrade', { detail, bubbles: true, composed: true, cancelable: true });
      if (!this.dispatchEvent(upgrade)) event.preventDefault();
    });
    const slot = document.createElement('slot');
    slot.name = 'upgrade';
    slot.append(button);
    slot.addEventListener('slotchange', () => this.#show());
    ui.slot = slot;

    const card = h('div', 'card',
      (ui.head = bare('div', 'row', h('span', 'label'), h('span', 'plan'))),
      (ui.figures = bare('div', 'row figures',
        h('span', 'count', h('span', 'used'), h('span', 'limit')), h('span', 'remaining'))),
      h('div', 'bar', h('div', 'fill'), h('div', 'pending')),
      (ui.foot = bare('div', 'row foot',
        bare('span', '', h('span', 'status', bare('span', 'dot'), text('statusText')), h('span', 'reset', text('resetText'), ' ', time)),
        h('span', 'running', bare('span', 'dot'), text('runningText')))),
      h('p', 'notice'),
      h('div', 'prompt', bare('div', '', h('p', 'prompt-title'), h('p', 'prompt-text')), slot),
      h('details', 'details', h('summary', 'summary'), h('ul', 'endpoints')),
    );
    // Stays in place and empty: only what changes in it is spoken.
    const spoken = bare('div', 'spoken');
    spoken.setAttribute('role', 'status');
    ui.spoken = spoken;
    root.append(card, spoken);
    return ui;
  }

  #show() {
    const ui = this.#ui;
    if (!ui) return;
    const m = this.#messages;
    const state = this.#client?.current ?? null;
    const problem = this.#client?.problem ?? null;
    const compact = this.compact;
    const label = this.label ?? (compact ? m.compactLabel : m.label(state?.period.per));
    ui.label.textContent = label;
    // In the compact form the label stands where the plan and the big number were.
    if (compact !== (ui.label.parentNode === ui.figures)) (compact ? ui.figures : ui.head).prepend(ui.label);
    ui.head.hidden = compact;

    const failed = !state && this.#client?.connection === 'offline';
    const limited = state !== null && state.limit !== null;
    ui.card.className = ['card', limited ? state.status : 'ok', state?.stale && 'stale',
      !state && 'empty', !state && !failed && 'loading'].filter(Boolean).join(' ');
    ui.card.setAttribute('aria-busy', String(!state && !failed));
    for (const name of ['plan', 'remaining', 'status', 'reset', 'running', 'notice', 'prompt', 'details']) ui[name].hidden = true;
    ui.bar.hidden = state !== null && !limited;
    if (!state) {
      ui.used.textContent = '–';
      ui.limit.textContent = '';
      ui.foot.hidden = true;
      this.#bar(0, 0);
      this.#meter(null);
      if (failed) this.#text(ui.notice, problem === 'unauthorized' ? m.unauthorized : m.unavailable);
      this.#status = null;
      return;
    }

    const number = this.#number;
    const { used, limit, pending } = state;
    this.#text(ui.plan, state.plan);
    const count = limited ? m.used(number(used), number(limit)) : m.usedOnly(number(used));
    if (compact) {
      ui.used.textContent = limited ? m.compact(number(used), number(limit)) : count;
      ui.limit.textContent = pending ? `, ${m.running(number(pending))}` : '';
    } else {
      // The number that moves is the big one.
      const [before, ...after] = count.split(number(used));
      ui.used.textContent = before + number(used);
      ui.limit.textContent = after.join(number(used));
      this.#text(ui.remaining, limited ? m.remaining(number(state.remaining)) : m.unlimited);
      if (pending) {
        ui.runningText.data = m.running(number(pending));
        ui.running.hidden = false;
      }
    }
    const words = !limited ? '' : limit === 0 ? m.notIncluded : { warning: m.warning, blocked: m.blocked }[state.status] ?? '';
    if (words) {
      ui.statusText.data = words;
      ui.status.hidden = false;
    }
    const reset = this.#date(state.period.end);
    if (!compact) {
      ui.resetText.data = m.resets;
      ui.time.textContent = reset;
      ui.time.dateTime = state.period.end;
      ui.reset.hidden = false;
    }
    ui.foot.hidden = compact && !words;
    this.#bar(limit ? Math.min(1, used / limit) : Number(limited), limit ? pending / limit : 0);
    const sentence = [count, pending && m.running(number(pending)), words, state.stale && m.stale, `${m.resets} ${reset}`];
    this.#meter(limit ? { now: Math.min(used, limit), max: limit, label, text: sentence.filter(Boolean).join(', ') } : null);
    if (state.stale) this.#text(ui.notice, compact ? m.stale : m.staleSince(this.#date(state.as_of, true)));

    this.#prompt(state);
    this.#breakdown(state);
    if (this.#status !== null && this.#status !== state.status) this.#say([words, count].filter(Boolean).join(': '));
    this.#status = state.status;
  }

  #text(node, text) {
    node.textContent = text;
    node.hidden = false;
  }

  #bar(used, pending) {
    const { bar, pending: part } = this.#ui;
    bar.style.setProperty('--_used', `${used * 100}%`);
    bar.style.setProperty('--_least', used > 0 ? '6px' : '0');
    bar.style.setProperty('--_pending', `${Math.min(1, pending) * 100}%`);
    part.classList.toggle('some', pending > 0);
  }

  /** A meter needs a range: without one the bar is decoration. */
  #meter(values) {
    const { bar } = this.#ui;
    for (const [name, value] of Object.entries({
      role: values && 'meter',
      'aria-hidden': values ? null : 'true',
      'aria-label': values?.label,
      'aria-valuemin': values && '0',
      'aria-valuemax': values?.max,
      'aria-valuenow': values?.now,
      'aria-valuetext': values?.text,
    })) reflect(bar, name, value);
  }

  #prompt(state) {
    const { slot, prompt, 'prompt-title': title, 'prompt-text': text, 'upgrade-button': button, buttonText } = this.#ui;
    const m = this.#messages;
    // Who is allowed all the same has a plan that observes, and needs no other.
    const blocked = state.limit !== null && state.status === 'blocked' && !state.allowed;
    if (!state.refused && !blocked) return;
    prompt.hidden = false;
    title.textContent = state.refused ? m.refusedTitle : state.limit === 0 ? m.notIncluded : m.promptTitle;
    text.textContent = this.#reason(state);
    buttonText.data = m.upgrade;
    const url = webURL(this.getAttribute('upgrade-url') ?? state.refused?.upgrade_url ?? state.upgrade_url);
    if (url) button.href = url;
    else button.removeAttribute('href');
    button.hidden = !url;
    // Nothing to see in the compact form without one of them.
    if (this.compact && !url && !slot.assignedNodes().length) prompt.hidden = true;
  }

  /** Says which limit is reached, and when it renews. */
  #reason(state) {
    const m = this.#messages;
    const violated = state.refused?.violated ?? [];
    const headline = state.limits.find((l) => !l.endpoint && l.per === state.period.per);
    const limit = state.limits.findLast?.((l) => violated.includes(l.name)) ?? headline;
    if (!limit) return '';
    if (limit.limit === 0) return m.limitEmpty(limit.endpoint);
    if (limit.used < limit.limit) return m.limitHeld;
    return `${m.limitReached(this.#number(limit.limit), limit.endpoint, limit.per)} ${m.renews(this.#date(limit.resets_at))}`;
  }

  #breakdown(state) {
    const { details, summary, endpoints: list } = this.#ui;
    const m = this.#messages;
    const rows = Object.entries(state.endpoints).map(([name, e]) => ({ key: `endpoint ${name}`, name, ...e }));
    // Limits over other windows, which neither the big number nor the endpoints show.
    for (const l of state.limits) {
      if (l.per === state.period.per) continue;
      const status = l.used >= l.limit ? 'blocked' : 'ok';
      rows.push({ key: `limit ${l.name}`, name: m.perWindow(l.endpoint, l.per), used: l.used, limit: l.limit, status });
    }
    details.hidden = this.compact || !rows.length;
    if (details.hidden) return;
    summary.textContent = m.breakdown;
    const seen = new Set();
    for (const row of rows) {
      seen.add(row.key);
      let item = this.#rows.get(row.key);
      if (!item) {
        const li = document.createElement('li');
        const [name, bar, fill, value] = ['span', 'span', 'span', 'span'].map((tag) => document.createElement(tag));
        [name.className, bar.className, fill.className, value.className] = ['name', 'bar', 'fill', 'value'];
        bar.setAttribute('aria-hidden', 'true');
        bar.append(fill);
        li.append(name, bar, value);
        item = { li, name, bar, value };
        this.#rows.set(row.key, item);
      }
      const limited = row.limit !== undefined;
      item.li.className = row.status ?? '';
      item.name.textContent = row.name;
      item.value.textContent = limited ? m.of(this.#number(row.used), this.#number(row.limit)) : this.#number(row.used);
      const share = row.used / ((limited ? row.limit : state.used) || 1);
      item.bar.style.setProperty('--_used', `${Math.min(1, share) * 100}%`);
      item.bar.style.setProperty('--_least', row.used > 0 ? '4px' : '0');
      if (list.children[seen.size - 1] !== item.li) list.insertBefore(item.li, list.children[seen.size - 1] ?? null);
    }
    for (const [key, { li }] of this.#rows) {
      if (seen.has(key)) continue;
      li.remove();
      this.#rows.delete(key);
    }
  }

  #say(words) {
    const [first] = audience.get(this.#client) ?? [];
    if (first !== this) return;
    const { spoken } = this.#ui;
    // The same words twice would not be spoken twice.
    spoken.textContent = spoken.textContent === words ? `${words}\u00a0` : words;
  }

  get #locale() { return this.closest('[lang]')?.lang || undefined; }

  #number = (n) => format(Intl.NumberFormat, this.#locale, {}, n);

  /** The day, and the time unless it is midnight here; with clock: only the time if it is today. */
  #date(iso, clock = false) {
    const date = new Date(iso);
    const now = new Date();
    const time = { hour: 'numeric', minute: '2-digit' };
    const day = { day: 'numeric', month: 'long', ...(date.getFullYear() !== now.getFullYear() && { year: 'numeric' }) };
    const soon = date.toDateString() === now.toDateString();
    const midnight = date.getHours() === 0 && date.getMinutes() === 0;
    const parts = soon && (clock || !midnight) ? time : midnight ? day : { ...day, ...time };
    return format(Intl.DateTimeFormat, this.#locale, parts, date);
  }
}

function makeSheet() {
  const s = new CSSStyleSheet();
  s.replaceSync(STYLE);
  return s;
}

function reflect(element, name, value) {
  if (value === null || value === undefined) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

const formats = new Map();

function format(Kind, locale, options, value) {
  const key = `${Kind.name} ${locale} ${JSON.stringify(options)}`;
  if (!formats.has(key)) {
    let made;
    try {
      made = new Kind(locale, options);
    } catch { // not a language
      made = new Kind(undefined, options);
    }
    formats.set(key, made);
  }
  return formats.get(key).format(value);
}

/** Only what a link may lead to. */
function webURL(text) {
  if (!text) return null;
  try {
    const url = new URL(text, document.baseURI);
    return /^https?:$/.test(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

if (globalThis.customElements && !customElements.get('usage-meter')) customElements.define('usage-meter', UsageMeter);
