/**
 * A running call of this tab.
 * @typedef {{ era: number }} Call era in which it was made, see PendingCalls
 */

/** The calls that are running: of this tab, and of the others by their ids. */
export class PendingCalls {
  /** @type {Set<Call>} */ #calls = new Set();
  // How often the user has changed. Calls of the previous user are not shown to the next.
  #era = 0;
  /** @type {Map<string, { count: number, at: number }>} */ #others = new Map();
  #timer;
  #core;

  /** @param {import('./core.js').Core} core */
  constructor(core) {
    this.#core = core;
  }

  /** The running calls of this tab. */
  get mine() {
    let count = 0;
    for (const call of this.#calls) if (call.era === this.#era) count++;
    return count;
  }

  total() {
    let sum = this.mine;
    for (const { count } of this.#others.values()) sum += count;
    return sum;
  }

  /** @returns {Call} */
  begin() {
    const call = { era: this.#era };
    this.#calls.add(call);
    this.tell();
    this.#core.state.publish();
    return call;
  }

  /** @param {Call} call */
  end(call) {
    this.#calls.delete(call);
    this.tell();
    this.#core.state.publish();
  }

  /** The calls that run now are another user's. */
  userChanged() { this.#era++; }

  /** Tells the other tabs how many calls run here. */
  tell() {
    this.#core.tabs.session?.post({ type: 'pending', id: this.#core.id, count: this.mine });
    this.#watch();
  }

  /** Takes what another tab has told. @param {string} id @param {number} count */
  setOther(id, count) {
    if (count > 0) this.#others.set(id, { count, at: Date.now() });
    else this.#others.delete(id);
    this.#watch();
    this.#core.state.publish();
  }

  /** @param {string} id of a tab that has left */
  removeOther(id) {
    if (this.#others.delete(id)) this.#core.state.publish();
  }

  clearOthers() {
    if (!this.#others.size) return;
    this.#others.clear();
    this.#core.state.publish();
  }

  /** While calls run, repeats their number, and forgets tabs that died with theirs. */
  #watch() {
    clearInterval(this.#timer);
    if ((!this.#calls.size && !this.#others.size) || this.#core.closed.aborted) return;
    this.#timer = setInterval(() => {
      for (const [id, { at }] of this.#others) {
        if (Date.now() - at > 90_000) this.#others.delete(id); // timers of hidden tabs run once a minute
      }
      if (this.#calls.size) this.tell();
      else this.#watch();
      this.#core.state.publish();
    }, 20_000);
  }

  close() { clearInterval(this.#timer); }
}
