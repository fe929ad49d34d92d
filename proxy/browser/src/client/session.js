import { relayAbort, sleep } from './waiting.js';

/**
 * What lasts as long as the user and the plan stay the same: the channel, the turns, the
 * timers. It begins with a token, alone. Once the gateway has named the token's user, the
 * session is shared with the other tabs of that user.
 */
export class Session {
  #controller = new AbortController();
  /** @type {AbortController | null} */ #turn = null;
  /** @type {Map<any, any>} */ #timers = new Map();
  #wakers = new Set();
  /** @type {BroadcastChannel | null} null: nothing is shared */ channel = null;
  leading = false;
  streams = false; // the present turn, or else polls
  /** @type {Map<string, number>} the other leading tabs, and when they were last heard of */ leaders = new Map();
  // Whether the next turn takes the lock from its holder.
  steal = false;

  // Whom the gateway counts for.
  /** @type {import('./identity.js').Identity | null} null: it has not said so yet */ identity = null;
  // Of the channel and the lock.
  /** @type {string} */ name = '';

  /** @param {string | null} token the last one; null: there is none */
  constructor(token) {
    this.token = token;
  }

  get signal() { return this.#controller.signal; }

  /**
   * Opens the channel to the other tabs, where a page may have one.
   * @param {import('./identity.js').Identity} identity
   * @param {string} gateway its address
   * @param {boolean} open
   */
  share(identity, gateway, open) {
    this.identity = identity;
    this.name = `metergate-usage ${gateway} ${JSON.stringify([identity.user, identity.org, identity.plan])}`;
    if (!open || typeof BroadcastChannel !== 'function') return;
    try {
      this.channel = new BroadcastChannel(this.name);
    } catch { /* a sandboxed frame */ }
  }

  /** Null: nothing is shared, or the page is not from a secure origin. */
  get locks() { return this.channel && (globalThis.navigator?.locks ?? null); }

  /** @param {any} message */
  post(message) {
    try {
      this.channel?.postMessage(message);
    } catch { /* closed */ }
  }

  /** Calls fn later, unless the session has ended; a second timer of a name replaces the first. */
  after(ms, fn, name = fn) {
    this.cancelTimer(name);
    if (this.signal.aborted) return;
    this.#timers.set(name, setTimeout(() => {
      this.#timers.delete(name);
      fn();
    }, ms));
  }

  cancelTimer(name) {
    clearTimeout(this.#timers.get(name));
    this.#timers.delete(name);
  }

  /** Sleeps until wake is called, at most. @param {number} ms @param {AbortSignal} signal */
  async nap(ms, signal) {
    const waker = new AbortController();
    const stopRelaying = relayAbort(signal, waker);
    this.#wakers.add(waker);
    await sleep(ms, waker.signal);
    this.#wakers.delete(waker);
    stopRelaying();
  }

  wake() {
    for (const waker of this.#wakers) waker.abort();
  }

  beginTurn() {
    this.#turn = new AbortController();
    if (this.signal.aborted) this.#turn.abort();
    return this.#turn;
  }

  /** Whether this tab leads, or waits to. */
  get inTurn() { return this.#turn !== null && !this.#turn.signal.aborted; }

  endTurn() { this.#turn?.abort(); }

  unshare() {
    this.channel?.close();
    this.channel = null;
  }

  end() {
    this.#controller.abort();
    this.endTurn();
    for (const timer of this.#timers.values()) clearTimeout(timer);
    this.unshare();
  }
}
