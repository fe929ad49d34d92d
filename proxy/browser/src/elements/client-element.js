import { createUsageClient } from '../client.js';
import { messages } from '../messages.js';
import { reflect } from './dom.js';
import { Locale, followLanguage } from './locale.js';
import { withOwnTexts } from './texts.js';

/**
 * An element that follows a client: one that the page gives it, or its own. A subclass
 * extends build, render and attach.
 */
// Where a page is rendered on a server there is no HTMLElement.
export class ClientElement extends (globalThis.HTMLElement ?? class {}) {
  static observedAttributes = ['base-url', 'token', 'lang'];
  /** What a page may set before the class is defined. */
  static earlyProperties = ['client', 'getToken', 'messages', 'token', 'baseUrl', 'theme'];

  /** Numbers and dates in the language of the element. */
  locale = new Locale(this);
  // The one that is followed.
  #client = null;
  // The client that the application has set.
  #given = null;
  #getToken = null;
  // The texts that the application has set, and all that are shown in a language.
  #ownTexts = {};
  #texts = null;
  #textsLanguage = '';
  // Functions that end what was begun for #client.
  #cleanups = [];
  #built = false;
  #stopFollowingLanguage = () => {};
  #scheduled = false;
  // The client, or the settings that it was made from.
  #followed = null;
  #followedGetToken = null;
  // Set properties once the element is connected: a constructor may not set attributes.
  #earlyProperties = [];

  constructor() {
    super();
    // Properties that were set before this class was defined.
    for (const name of new.target.earlyProperties) {
      if (!Object.hasOwn(this, name)) continue;
      const value = this[name];
      delete this[name];
      this.#earlyProperties.push(() => { this[name] = value; });
    }
  }

  /** Makes the nodes, once. */
  build() {}

  /**
   * Shows the state of a client: after build, and after every change.
   * @param {import('../../client.d.ts').UsageClient | null} client null: none is followed yet
   */
  render(client) {}

  /**
   * Begins to follow a client.
   * @param {import('../../client.d.ts').UsageClient} client
   * @returns {(() => void)[]} functions that end it
   */
  attach(client) { return []; }

  /** The client that is followed. Set it to share one; null: the element makes its own. */
  get client() { return this.#given ?? this.#client; }
  set client(client) {
    this.#given = client ?? null;
    this.#scheduleFollow();
  }

  /** As in the options of createUsageClient. */
  get getToken() { return this.#getToken; }
  set getToken(getToken) {
    this.#getToken = getToken ?? null;
    this.#scheduleFollow();
  }

  /** The texts in the language of the element. Set some, or all, to replace them. */
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
    if (name === 'base-url' || (name === 'token' && !this.#getToken)) this.#scheduleFollow();
    this.#show();
  }

  #show() {
    if (this.#built) this.render(this.#client);
  }

  /** Follows the right client once everything that is being set has been set. */
  #scheduleFollow() {
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      if (this.isConnected && !this.#knowsWhom && document.readyState !== 'complete') this.#followLater();
      else this.#follow();
    });
  }

  /** Whether the page has said whom to follow. */
  get #knowsWhom() { return this.#given || this.#getToken || this.token; }

  /** Gives the page's own scripts the time to say whom to follow: modules run before DOMContentLoaded. */
  #followLater() {
    const follow = () => this.#follow();
    document.addEventListener('DOMContentLoaded', follow, { once: true });
    addEventListener('load', follow, { once: true });
  }

  #follow() {
    const wanted = this.isConnected
      ? this.#given ?? `${this.baseUrl}\n${this.#getToken ? '' : this.token}`
      : null;
    if (wanted === this.#followed && this.#getToken === this.#followedGetToken) return;
    for (const cleanup of this.#cleanups.splice(0)) cleanup();
    this.#client = null;
    this.#followed = wanted;
    this.#followedGetToken = this.#getToken;
    if (wanted === null) return;
    const client = this.#client = this.#given ?? this.#ownClient();
    const show = () => this.#show();
    client.addEventListener('connection', show);
    this.#cleanups.push(...this.attach(client), client.subscribe(show), () => client.removeEventListener('connection', show));
    this.#show();
  }

  /** A client of the element's own, which ends when it follows another. */
  #ownClient() {
    const token = this.token;
    const client = createUsageClient({
      baseUrl: this.baseUrl ?? undefined,
      getToken: this.#getToken ?? (token === null ? undefined : () => token),
    });
    this.#cleanups.push(() => client.close());
    return client;
  }
}

/**
 * Gives a class a property for each attribute: its text, or null without it.
 * @param {Function} Element
 * @param {Record<string, string>} attributes by property
 */
export function reflectProperties(Element, attributes) {
  for (const [property, attribute] of Object.entries(attributes)) {
    Object.defineProperty(Element.prototype, property, {
      configurable: true,
      enumerable: true,
      get() { return this.getAttribute(attribute); },
      set(value) { reflect(this, attribute, value); },
    });
  }
}

reflectProperties(ClientElement, { baseUrl: 'base-url', token: 'token', theme: 'theme' });
