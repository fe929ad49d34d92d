// Code generated from src by go generate ./proxy/browser; DO NOT EDIT.

// What the elements of this gateway share: following a client, language, limits, colours.
// It is not for applications, and may change with every version.


// src/elements/client-element.js
import { createUsageClient } from "./client.js";
import { messages } from "./messages.js";

// src/elements/dom.js
function reflect(element, name, value) {
  if (value === null || value === void 0) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}
function showText(node, text) {
  node.textContent = text;
  node.hidden = false;
}
function webURL(text) {
  if (!text) return null;
  try {
    const url = new URL(text, document.baseURI);
    return /^https?:$/.test(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}
function describeMeter(bar, values) {
  for (const [name, value] of Object.entries({
    role: values && "meter",
    "aria-hidden": values ? null : "true",
    "aria-label": values?.label,
    "aria-valuemin": values && "0",
    "aria-valuemax": values?.max,
    "aria-valuenow": values?.now,
    "aria-valuetext": values?.text
  })) reflect(bar, name, value);
}
function leadToUpgrade(element, link, state) {
  const url = webURL(element.getAttribute("upgrade-url") ?? state?.refused?.upgrade_url ?? state?.upgrade_url);
  reflect(link, "href", url);
  link.hidden = !url;
  return Boolean(url);
}
function dispatchUpgrade(element, click, state) {
  const detail = { url: click.currentTarget.href, state };
  const opens = element.dispatchEvent(new CustomEvent("upgrade", { detail, bubbles: true, composed: true, cancelable: true }));
  if (!opens) click.preventDefault();
  return opens;
}
function speak(region, words) {
  region.textContent = region.textContent === words ? `${words} ` : words;
}

// src/elements/locale.js
var formats = /* @__PURE__ */ new Map();
function formatOf(Kind, locale, options) {
  const key = `${Kind.name} ${locale} ${JSON.stringify(options)}`;
  if (!formats.has(key)) {
    formats.set(key, new Kind(locale, options));
  }
  return formats.get(key);
}
function nearestLang(element) {
  for (let root = element; root; root = root.getRootNode().host) {
    const { lang } = root.closest("[lang]") ?? {};
    if (lang !== void 0) return lang;
  }
  return "";
}
function tagOf(lang) {
  const tag = lang.replaceAll("_", "-");
  try {
    Intl.getCanonicalLocales(tag);
    return tag;
  } catch {
    return "en";
  }
}
var Count = class {
  constructor(value, text) {
    this.value = value;
    this.text = text;
  }
  toString() {
    return this.text;
  }
};
var Locale = class {
  #element;
  constructor(element) {
    this.#element = element;
  }
  get tag() {
    const lang = nearestLang(this.#element);
    if (lang) return tagOf(lang);
    const own = globalThis.navigator?.language ?? "";
    return /^en\b/.test(own) ? own : "en";
  }
  get language() {
    return this.tag.toLowerCase().split("-")[0];
  }
  count(n) {
    return new Count(n, formatOf(Intl.NumberFormat, this.tag, {}).format(n));
  }
  number(n, options = {}) {
    return formatOf(Intl.NumberFormat, this.tag, options).format(n);
  }
  formatDate(date, options) {
    const format = formatOf(Intl.DateTimeFormat, this.tag, options);
    if (this.language !== "fr") return format.format(date);
    return format.formatToParts(date).map(({ type, value }) => type === "day" && value === "1" ? "1er" : value).join("");
  }
  date(iso, clock = false) {
    const date = new Date(iso);
    const now = /* @__PURE__ */ new Date();
    const time = { hour: "numeric", minute: "2-digit" };
    const day = { day: "numeric", month: "long", ...date.getFullYear() !== now.getFullYear() && { year: "numeric" } };
    const today = date.toDateString() === now.toDateString();
    const midnight = date.getHours() === 0 && date.getMinutes() === 0;
    return this.formatDate(date, today && (clock || !midnight) ? time : midnight ? day : { ...day, ...time });
  }
};
var followers = /* @__PURE__ */ new Set();
var observer;
function followLanguage(fn) {
  observer ??= new MutationObserver(() => {
    for (const follower of [...followers]) follower();
  });
  if (!followers.size) observer.observe(document, { subtree: true, attributeFilter: ["lang"] });
  followers.add(fn);
  return () => {
    followers.delete(fn);
    if (!followers.size) observer.disconnect();
  };
}

// src/elements/texts.js
var warned = /* @__PURE__ */ new Set();
function withOwnTexts(texts, own) {
  const all = { ...texts };
  for (const [name, text] of Object.entries(own)) {
    if (!Object.hasOwn(texts, name)) warnOnce(name);
    else if (text !== void 0 && text !== null) {
      const say = typeof text === "function" ? (...values) => String(text(...values) ?? "") : () => String(text);
      all[name] = typeof texts[name] === "function" ? say : say();
    }
  }
  return all;
}
function warnOnce(name) {
  if (warned.has(name)) return;
  warned.add(name);
  console.warn(`metergate: the elements have no text "${name}", so it is not used. docs/texts.md of Metergate lists the names that messages may have.`);
}

// src/elements/client-element.js
var ClientElement = class extends (globalThis.HTMLElement ?? class {
}) {
  static observedAttributes = ["base-url", "token", "lang"];
  static earlyProperties = ["client", "getToken", "messages", "token", "baseUrl", "theme"];
  locale = new Locale(this);
  // The one that is followed.
  #client = null;
  // The client that the application has set.
  #given = null;
  #getToken = null;
  // The texts that the application has set, and all that are shown in a language.
  #ownTexts = {};
  #texts = null;
  #textsLanguage = "";
  // Functions that end what was begun for #client.
  #cleanups = [];
  #built = false;
  #stopFollowingLanguage = () => {
  };
  #scheduled = false;
  // The client, or the settings that it was made from.
  #followed = null;
  #followedGetToken = null;
  // Set properties once the element is connected: a constructor may not set attributes.
  #earlyProperties = [];
  constructor() {
    super();
    for (const name of new.target.earlyProperties) {
      if (!Object.hasOwn(this, name)) continue;
      const value = this[name];
      delete this[name];
      this.#earlyProperties.push(() => {
        this[name] = value;
      });
    }
  }
  build() {
  }
  render(client) {
  }
  attach(client) {
    return [];
  }
  get client() {
    return this.#given ?? this.#client;
  }
  set client(client) {
    this.#given = client ?? null;
    this.#scheduleFollow();
  }
  get getToken() {
    return this.#getToken;
  }
  set getToken(getToken) {
    this.#getToken = getToken ?? null;
    this.#scheduleFollow();
  }
  get messages() {
    const { language } = this.locale;
    if (!this.#texts || language !== this.#textsLanguage) {
      this.#texts = withOwnTexts(messages[language] ?? messages.en, this.#ownTexts);
      this.#textsLanguage = language;
    }
    return this.#texts;
  }
  set messages(texts) {
    this.#ownTexts = texts ?? {};
    this.#texts = null;
    this.#show();
  }
  connectedCallback() {
    for (const set of this.#earlyProperties.splice(0)) set();
    if (!this.#built) this.build();
    this.#built = true;
    this.#stopFollowingLanguage();
    this.#stopFollowingLanguage = followLanguage(() => this.#show());
    this.#show();
    this.#scheduleFollow();
  }
  disconnectedCallback() {
    this.#stopFollowingLanguage();
    this.#scheduleFollow();
  }
  attributeChangedCallback(name, before, after) {
    if (before === after) return;
    if (name === "base-url" || name === "token" && !this.#getToken) this.#scheduleFollow();
    this.#show();
  }
  #show() {
    if (this.#built) this.render(this.#client);
  }
  #scheduleFollow() {
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      if (this.isConnected && !this.#knowsWhom && document.readyState !== "complete") this.#followLater();
      else this.#follow();
    });
  }
  get #knowsWhom() {
    return this.#given || this.#getToken || this.token;
  }
  #followLater() {
    const follow = () => this.#follow();
    document.addEventListener("DOMContentLoaded", follow, { once: true });
    addEventListener("load", follow, { once: true });
  }
  #follow() {
    const wanted = this.isConnected ? this.#given ?? `${this.baseUrl}
${this.#getToken ? "" : this.token}` : null;
    if (wanted === this.#followed && this.#getToken === this.#followedGetToken) return;
    for (const cleanup of this.#cleanups.splice(0)) cleanup();
    this.#client = null;
    this.#followed = wanted;
    this.#followedGetToken = this.#getToken;
    if (wanted === null) return;
    const client = this.#client = this.#given ?? this.#ownClient();
    const show = () => this.#show();
    client.addEventListener("connection", show);
    this.#cleanups.push(...this.attach(client), client.subscribe(show), () => client.removeEventListener("connection", show));
    this.#show();
  }
  #ownClient() {
    const token = this.token;
    const client = createUsageClient({
      baseUrl: this.baseUrl ?? void 0,
      getToken: this.#getToken ?? (token === null ? void 0 : () => token)
    });
    this.#cleanups.push(() => client.close());
    return client;
  }
};
function reflectProperties(Element, attributes) {
  for (const [property, attribute] of Object.entries(attributes)) {
    Object.defineProperty(Element.prototype, property, {
      configurable: true,
      enumerable: true,
      get() {
        return this.getAttribute(attribute);
      },
      set(value) {
        reflect(this, attribute, value);
      }
    });
  }
}
reflectProperties(ClientElement, { baseUrl: "base-url", token: "token", theme: "theme" });

// src/elements/limits.js
function lowest(items, rank) {
  return items.reduce((best, item) => best === void 0 || rank(item) < rank(best) ? item : best, void 0);
}
function headlineLimit({ limits }) {
  return lowest(limits.filter((l) => !l.endpoint), (l) => (l.soft ? 2 : 0) + (l.shared ? 1 : 0));
}
function poolLimit(state) {
  const headline = headlineLimit(state);
  return lowest(state.limits.filter((l) => l.shared && !l.endpoint && l !== headline), (l) => l.soft ? 1 : 0);
}
function endpointLimit({ limits, period }, endpoint) {
  return lowest(
    limits.filter((l) => l.endpoint === endpoint && l.per === period.per && !l.shared),
    (l) => (l.soft ? 2 : 0) + (l.unit === "units" ? 1 : 0)
  );
}
function neededOf({ endpoints }, limit, endpoint) {
  return limit.unit === "units" && endpoints[endpoint ?? ""]?.cost?.max || 1;
}
function blockingLimit(state, endpoint) {
  const tooLittle = (l) => l.used + neededOf(state, l, endpoint) > l.limit;
  const refused = state.refused?.endpoint === endpoint ? state.refused : null;
  const blocking = state.limits.filter((l) => refused ? refused.violated.includes(l.name) : !l.soft && tooLittle(l) && (!l.endpoint || l.endpoint === endpoint));
  return lowest(blocking, (l) => !tooLittle(l) ? 0 : l.resets_at === null ? -Infinity : -Date.parse(l.resets_at));
}
function unitName(state, unit, messages2, n) {
  if (unit === "units" && state.unit_name) return messages2.unit(state.unit_name, n);
  return unit === "units" ? messages2.units(n) : messages2.requests(n);
}
function limitReason(state, messages2, locale, endpoint = state.refused?.endpoint ?? null) {
  const headline = headlineLimit(state);
  const limit = blockingLimit(state, endpoint) ?? headline;
  if (!limit) return null;
  if (limit.limit === 0) return { kind: "empty", limit, text: messages2.limitEmpty(limit.endpoint), renewal: "" };
  const left = limit.limit - (limit === headline ? Math.max(state.used, limit.used) : limit.used);
  const needed = neededOf(state, limit, endpoint);
  if (needed <= left) return { kind: "held", limit, text: messages2.limitHeld, renewal: "" };
  const [cost, rest, all] = [needed, left, limit.limit].map((n) => locale.count(n));
  const name = (n) => unitName(state, limit.unit, messages2, n);
  const text = left > 0 ? messages2.limitShort(cost, rest, all, limit.endpoint, limit.per, name(cost), limit.shared) : messages2.limitReached(all, limit.endpoint, limit.per, name(all), limit.shared);
  const renewal = limit.resets_at ? messages2.renews(locale.date(limit.resets_at)) : messages2.doesNotRenew;
  return { kind: left > 0 ? "short" : "reached", limit, text, renewal };
}
function limitText(state, messages2, locale) {
  const { text, renewal } = limitReason(state, messages2, locale) ?? {};
  return [text, renewal].filter(Boolean).join(" ");
}

// src/elements/nodes.js
function nodeBuilder() {
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
  const text = (name) => ui[name] = document.createTextNode("");
  const spoken = () => {
    ui.spoken = bare("div", "spoken");
    ui.spoken.setAttribute("role", "status");
    return ui.spoken;
  };
  const upgradeSlot = (onUpgrade) => {
    const button = part("a", "upgrade-button", text("buttonText"));
    button.classList.add("button");
    button.target = "_blank";
    button.rel = "noopener";
    button.addEventListener("click", onUpgrade);
    ui.slot = bare("slot", "", button);
    ui.slot.name = "upgrade";
    return ui.slot;
  };
  const cross = (onClick) => {
    const button = part("button", "dismiss");
    button.type = "button";
    button.addEventListener("click", onClick);
    return button;
  };
  return { ui, bare, part, text, spoken, upgradeSlot, cross };
}

// src/elements/theme.js
var LIGHT = `
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
var DARK = `
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
var SHARED = `
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

.button {
  flex: none; padding: 7px 14px; border-radius: 7px;
  font: inherit; font-weight: 500; line-height: 20px; text-decoration: none;
  background: var(--_button); color: var(--_button-text); transition: opacity 150ms;
}
.button:hover { opacity: 0.86; }
/* A cross of two lines, so that it needs no text. */
.dismiss {
  position: relative; flex: none; width: 24px; height: 24px; padding: 0;
  border: 0; border-radius: 6px; background: none; color: var(--_muted); font: inherit; cursor: pointer;
}
.dismiss:hover { color: var(--_text); background: var(--_track); }
.dismiss::before, .dismiss::after {
  content: ""; position: absolute; inset: 11px 6px auto; height: 1.5px; border-radius: 1px;
  background: currentColor; transform: rotate(45deg);
}
.dismiss::after { transform: rotate(-45deg); }
:focus-visible { outline: 2px solid var(--usage-meter-focus-color, currentColor); outline-offset: 2px; }
.spoken { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }

@media (prefers-reduced-motion: reduce) {
  *, ::before, ::after, ::backdrop { animation: none !important; transition: none !important; }
}
@media (forced-colors: active) {
  .button { border: 1px solid LinkText; }
  .dismiss { border: 1px solid ButtonText; }
  .dismiss::before, .dismiss::after { forced-color-adjust: none; background: ButtonText; }
}
`;
var sheets = /* @__PURE__ */ new Map();
function sheetWith(css) {
  let sheet = sheets.get(css);
  if (!sheet) {
    sheet = new CSSStyleSheet();
    sheet.replaceSync(css);
    sheets.set(css, sheet);
  }
  return sheet;
}
var sheetsOf = (css) => [sheetWith(SHARED), sheetWith(css)];
export {
  ClientElement,
  Locale,
  describeMeter,
  dispatchUpgrade,
  endpointLimit,
  headlineLimit,
  leadToUpgrade,
  limitReason,
  limitText,
  nodeBuilder,
  poolLimit,
  reflect,
  reflectProperties,
  sheetsOf,
  showText,
  speak,
  unitName
};
