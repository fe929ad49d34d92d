import { CallFetcher } from './fetch.js';
import { Follower } from './follower.js';
import { PendingCalls } from './pending.js';
import { Prices } from './prices.js';
import { Requests } from './requests.js';
import { State } from './state.js';
import { Tabs } from './tabs.js';
import { TIMING } from './timing.js';

/** The parts of a client and what they share. Each part reaches the others through it. */
export class Core {
  #life = new AbortController();
  /** @type {AbortSignal} aborted by close */ closed = this.#life.signal;
  /** Tells the tabs apart, and which is older. */
  id = Date.now().toString(36) + Math.random().toString(36).slice(2);

  /**
   * @param {EventTarget} target gets the events
   * @param {URL} base of the gateway; its path ends with a slash
   * @param {Pick<import('../../client.d.ts').UsageClientOptions, 'getToken' | 'credentials' | 'poll'> & { send: typeof fetch }} access
   *   how requests are sent, and what they say about the user
   * @param {Partial<typeof TIMING>} [timing]
   */
  constructor(target, base, { getToken, credentials, poll, send }, timing) {
    this.base = base;
    this.getToken = getToken;
    this.credentials = credentials;
    this.send = send;
    this.poll = poll;
    // On a server nobody watches.
    this.follows = poll || typeof document !== 'undefined';
    this.timing = { ...TIMING, ...timing };
    this.state = new State(this, target);
    this.prices = new Prices(this);
    this.pending = new PendingCalls(this);
    this.requests = new Requests(this);
    this.tabs = new Tabs(this);
    this.follower = new Follower(this);
    this.calls = new CallFetcher(this);
  }

  close() {
    if (this.closed.aborted) return;
    this.tabs.close();
    this.#life.abort();
    this.requests.close();
    this.pending.close();
    this.state.close();
  }
}
