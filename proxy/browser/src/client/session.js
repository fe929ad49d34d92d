import { relayAbort, sleep } from './waiting.js';

/** What lasts as long as the user stays the same: the channel, the turns, the timers. */
export class Session {
  #controller = new AbortController();
  /** @type {AbortController | null} */ #turn = null;
  /** @type {Map<any, any>} */ #timers = new Map();
  #wakers = new Set();
  /** @type {BroadcastChannel | null} null: nothing is shared */ channel = null;
  leading = false;
  // Whether the next turn takes the lock from its holder.
  steal = false;

  /**
   * @param {string} key of the identity: see identify
   * @param {string | null} user null: not known
   * @param {string | null} name of the channel and the lock; null: not shared
   */
  constructor(key, user, name) {
    this.key = key;
    this.user = user;
    this.name = name;
    if (name && globalThis.navigator?.locks && typeof BroadcastChannel === 'function') {
      try {
        this.channel = new BroadcastChannel(name);
      } catch { /* a sandboxed frame */ }
    }
  }

  get signal() { return this.#controller.signal; }

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
