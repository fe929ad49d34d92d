import { createUsageClient } from '../client.js';
import { reflect } from './dom.js';
import { MESSAGES } from './messages.js';
import { MeterView } from './view.js';

/** The meters of each client: only the first of them speaks. */
const metersOf = new WeakMap();

// Where a page is rendered on a server there is no HTMLElement.
export class UsageMeter extends (globalThis.HTMLElement ?? class {}) {
  static observedAttributes = ['base-url', 'token', 'label', 'compact', 'price', 'upgrade-url'];

  // The one that is followed.
  #client = null;
  // The client that the application has set.
  #given = null;
  #getToken = null;
  #messages = MESSAGES;
  // Functions that end what was begun for #client.
  #cleanups = [];
  #view = null;
  #scheduled = false;
  // The client, or the settings that it was made from.
  #followed = null;
  #followedGetToken = null;
  // Set properties once the element is connected: a constructor may not set attributes.
  #earlyProperties = [];

  constructor() {
    super();
    // Properties that were set before this class was defined.
    for (const name of ['client', 'getToken', 'messages', 'token', 'baseUrl', 'label', 'compact', 'price']) {
      if (!Object.hasOwn(this, name)) continue;
      const value = this[name];
      delete this[name];
      this.#earlyProperties.push(() => { this[name] = value; });
    }
  }

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

  /** Texts that replace the English ones, all or some: see MESSAGES. */
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
  /** The endpoints whose price is shown, separated by spaces. */
  get price() { return this.getAttribute('price'); }
  set price(value) { reflect(this, 'price', value); }
  get compact() { return this.hasAttribute('compact'); }
  set compact(value) { this.toggleAttribute('compact', Boolean(value)); }

  connectedCallback() {
    for (const set of this.#earlyProperties.splice(0)) set();
    this.#view ??= new MeterView(this, {
      onUpgrade: (event) => this.#upgrade(event),
      onSlotChange: () => this.#show(),
      say: (words) => this.#say(words),
    });
    this.#show();
    this.#scheduleFollow();
  }

  disconnectedCallback() { this.#scheduleFollow(); }

  attributeChangedCallback(name, before, after) {
    if (before === after) return;
    if (name === 'base-url' || (name === 'token' && !this.#getToken)) this.#scheduleFollow();
    this.#show();
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
    this.#view?.forgetStatus();
    if (wanted === null) return;
    let client = this.#given;
    if (!client) {
      const token = this.token;
      client = createUsageClient({
        baseUrl: this.baseUrl ?? undefined,
        getToken: this.#getToken ?? (token === null ? undefined : () => token),
      });
      this.#cleanups.push(() => client.close());
    }
    this.#client = client;
    const meters = metersOf.get(client) ?? new Set();
    metersOf.set(client, meters.add(this));
    const sayRefused = ({ detail }) => this.#say(this.#view.refusalText(detail));
    const show = () => this.#show();
    client.addEventListener('connection', show);
    client.addEventListener('usage-exceeded', sayRefused);
    this.#cleanups.push(
      client.subscribe(show),
      () => client.removeEventListener('connection', show),
      () => client.removeEventListener('usage-exceeded', sayRefused),
      () => meters.delete(this),
    );
    this.#show();
  }

  #show() { this.#view?.show(this.#client); }

  #say(words) {
    const [first] = metersOf.get(this.#client) ?? [];
    if (first === this) this.#view.speak(words);
  }

  #upgrade(event) {
    const detail = { url: event.currentTarget.href, state: this.#client?.current ?? null };
    const upgrade = new CustomEvent('upgrade', { detail, bubbles: true, composed: true, cancelable: true });
    if (!this.dispatchEvent(upgrade)) event.preventDefault();
  }
}
