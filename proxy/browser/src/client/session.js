import { childOf, startDeadline, untilAborted } from './waiting.js';

/**
 * What lasts as long as the user and the plan stay the same: the channel, the turns, the
 * timers. It begins with a token, alone. Once the gateway has named the token's user, the
 * session is shared with the other tabs of that user.
 */
export class Session {
  #life = new AbortController();
  signal = this.#life.signal;
  #turn = this.#life;
  /** @type {Set<{ end: () => void }>} */ #naps = new Set();
  /** @type {BroadcastChannel | null} null: nothing is shared */ channel = null;
  leading = false;
  streams = false; // the present turn, or else polls
  /** @type {Map<string, number>} the other leading tabs, and when they were last heard of */ leaders = new Map();
  // Whether the next turn takes the lock from its holder.
  steal = false;
  /** @type {any} */ leaderTimer;

  // Whom the gateway counts for.
  /** @type {import('./identity.js').Identity | null} null: it has not said so yet */ identity = null;
  // Of the channel and the lock.
  name = '';

  /** @param {string | null} token the last one; null: there is none */
  constructor(token) {
    this.token = token;
  }

  /** Null: nothing is shared, or the page is not from a secure origin. */
  get locks() { return this.channel && globalThis.navigator?.locks; }

  /** Sleeps until wake is called, at most. @param {number} ms @param {AbortSignal} signal */
  async nap(ms, signal) {
    const nap = startDeadline(signal, ms);
    this.#naps.add(nap);
    await untilAborted(nap.signal);
    this.#naps.delete(nap);
  }

  wake() {
    for (const nap of this.#naps) nap.end();
  }

  beginTurn() {
    this.#turn = childOf(this.signal);
    return this.#turn.signal;
  }

  /** Whether this tab leads, or waits to. */
  get inTurn() { return this.#turn !== this.#life && !this.#turn.signal.aborted; }

  endTurn() { this.#turn.abort(); }

  unshare() {
    this.channel?.close();
    this.channel = null;
  }

  end() {
    this.#life.abort();
    clearTimeout(this.leaderTimer);
    this.unshare();
  }
}
