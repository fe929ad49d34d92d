/** The calls that are running: of this tab, and of the others by their ids. */
export class PendingCalls {
  mine = 0;
  /** @type {Map<string, { count: number, at: number }>} */ #others = new Map();
  #timer;
  #core;

  /** @param {import('./core.js').Core} core */
  constructor(core) {
    this.#core = core;
  }

  total() {
    let sum = this.mine;
    for (const { count } of this.#others.values()) sum += count;
    return sum;
  }

  /** @param {number} n */
  add(n) {
    this.mine += n;
    this.tell();
    this.#core.state.publish();
  }

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
    if ((!this.mine && !this.#others.size) || this.#core.closed.aborted) return;
    this.#timer = setInterval(() => {
      for (const [id, { at }] of this.#others) {
        if (Date.now() - at > 90_000) this.#others.delete(id); // timers of hidden tabs run once a minute
      }
      if (this.mine) this.tell();
      else this.#watch();
      this.#core.state.publish();
    }, 20_000);
  }

  close() { clearInterval(this.#timer); }
}
