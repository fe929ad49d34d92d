/**
 * A running call of this tab.
 * @typedef {{ era: number, route: string, endpoint?: string, costs: string, rest?: number, since?: number, over?: boolean }} Call era in
 *   which it was made, see PendingCalls; endpoint as the caller has named it; costs as they
 *   were known then, see Prices; rest: it is counted, and may cost so many units more at its
 *   end; since: when it was counted; over: its body has ended
 */

/**
 * The calls that are running: of this tab, and of the others by their ids. Each tab knows
 * how many its calls are and what they may cost: the headline limit decides which is shown.
 */
export class PendingCalls {
  /** @type {Set<Call>} */ #calls = new Set();
  // How often the user has changed. Calls of the previous user are not shown to the next.
  #era = 0;
  /** @type {Map<string, { count: number, units: number, at: number }>} */ #others = new Map();
  #timer;
  #core;

  /** @param {import('./core.js').Core} core */
  constructor(core) {
    this.#core = core;
  }

  /** The running calls of this tab. */
  get mine() {
    const calls = [...this.#calls].filter((call) => call.era === this.#era);
    const { prices } = this.#core;
    return {
      count: calls.filter((call) => call.rest === undefined).length,
      units: calls.reduce((sum, call) => sum + (call.rest ?? prices.priceOf(call)), 0),
    };
  }

  /** What all of them may add to `used`. */
  total() {
    const quantity = this.#core.state.numbers.usage?.unit === 'units' ? 'units' : 'count';
    return [this.mine, ...this.#others.values()].reduce((sum, calls) => sum + calls[quantity], 0);
  }

  /** @param {string} route @param {string} [endpoint] @returns {Call} */
  begin(route, endpoint) {
    const call = { era: this.#era, route, endpoint, costs: this.#core.prices.readCosts() };
    this.#calls.add(call);
    this.tell();
    this.#core.state.publish();
    return call;
  }

  /** A call is counted, and may cost so many units more at the end of its body. @param {Call} call @param {number} rest */
  awaitRest(call, rest) {
    call.rest = rest;
    call.since = Date.now();
    this.tell();
    this.#core.state.publish();
  }

  /** The body of a call has ended. It stays until the numbers that follow have its cost. @param {Call} call */
  endWithNumbers(call) {
    const { closed, requests, state, timing } = this.#core;
    if (state.numbers.usage?.in_flight === 0) return this.end(call);
    call.over = true;
    setTimeout(async () => {
      if (!this.#calls.has(call) || closed.aborted) return;
      await requests.read(closed);
      if (this.#calls.has(call)) this.end(call); // the gateway does not answer
    }, timing.floor);
  }

  /**
   * Newer numbers have arrived. If nothing of the user's is held, calls whose bodies nobody reads have
   * ended as well, unless they may be newer than these numbers.
   * @param {boolean} nothingHeld
   */
  numbersChanged(nothingHeld) {
    for (const call of this.#calls) {
      const forgotten = nothingHeld && call.rest !== undefined && Date.now() - (call.since ?? 0) > 5_000;
      if (call.over || forgotten) this.end(call);
    }
  }

  /** @param {Call} call */
  end(call) {
    this.#calls.delete(call);
    this.tell();
    this.#core.state.publish();
  }

  /** The calls that run now are another user's. */
  userChanged() { this.#era++; }

  /** Tells the other tabs of the calls that run here. */
  tell() {
    this.#core.tabs.session?.post({ type: 'pending', id: this.#core.id, ...this.mine });
    this.#watch();
  }

  /**
   * Takes what another tab has told.
   * @param {{ id: string, count: number, units?: number }} message a tab whose client.js is
   *   older than costs tells no units
   */
  setOther({ id, count, units = count }) {
    if (count > 0 || units > 0) this.#others.set(id, { count, units, at: Date.now() });
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

  /** While calls run, repeats what they are, and forgets tabs that died with theirs. */
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
