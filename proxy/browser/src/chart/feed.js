/** @typedef {import('../../client.d.ts').UsageHistory} UsageHistory */
/** @typedef {import('../../client.d.ts').UsageState} UsageState */
/** @typedef {import('../../client.d.ts').ConnectionProblem} ConnectionProblem */

/**
 * Milliseconds. between: from one reading to the next. retry: from one that failed to the next.
 * look: how often the feed looks whether a new day has begun.
 */
export const TIMING = { between: 10_000, retry: 30_000, look: 60_000 };

/** Reads the history of a client again whenever the user has used something, while the page is visible. */
export class HistoryFeed {
  /** @type {UsageHistory | null} */ history = null;
  /** @type {ConnectionProblem | 'off'} of the last reading */ problem = null;
  #client;
  #days;
  #onChange;
  #closed = new AbortController();
  #timer;
  #lookTimer;
  // When a reading may begin; null: none is wanted.
  #due = null;
  #reading = false;
  #lastBegin = -Infinity;
  // Counts what makes a running reading worthless.
  #epoch = 0;
  // Whose numbers are followed, and what they were.
  #user = null;
  #used = null;
  // The day that a reading was wanted for because it had begun.
  #newDay = '';

  /**
   * @param {import('../../client.d.ts').UsageClient} client
   * @param {() => number | undefined} days undefined: as many as the gateway wants to tell
   * @param {() => void} onChange of history or problem
   */
  constructor(client, days, onChange) {
    this.#client = client;
    this.#days = days;
    this.#onChange = onChange;
    document.addEventListener('visibilitychange', () => this.#schedule(), { signal: this.#closed.signal });
    this.#lookTimer = setInterval(() => this.#lookForNewDay(), TIMING.look);
  }

  close() {
    this.#closed.abort();
    this.#epoch++;
    clearTimeout(this.#timer);
    clearInterval(this.#lookTimer);
  }

  /** @param {UsageState | null} state */
  follow(state) {
    const user = state && JSON.stringify([state.user, state.org]);
    if (user !== this.#user) {
      this.#user = user;
      this.history = this.problem = this.#used = this.#due = null;
      this.#lastBegin = -Infinity;
      this.#newDay = '';
      this.#epoch++;
      this.#reading = false;
    }
    if (!state) return;
    // In an outage of the store the numbers change, and the history may not. It is read again when
    // they are current.
    const used = `${state.used} ${state.stale}`;
    if (used === this.#used || this.problem === 'off') return;
    this.#used = used;
    this.#want(TIMING.between);
  }

  /** Begins anew, with another number of days. */
  readAgain() {
    this.#epoch++;
    this.#reading = false;
    this.#want(0);
  }

  /** Wants a reading, so long after the last one. @param {number} wait */
  #want(wait) {
    this.#due = this.#lastBegin + wait;
    this.#schedule();
  }

  #schedule() {
    clearTimeout(this.#timer);
    if (this.#due === null || this.#reading || document.visibilityState === 'hidden') return;
    const wait = this.#due - performance.now();
    if (wait > 0) this.#timer = setTimeout(() => this.#read(), wait);
    else this.#read();
  }

  async #read() {
    const epoch = this.#epoch;
    this.#due = null;
    this.#reading = true;
    this.#lastBegin = performance.now();
    let { history, problem } = await this.#ask(this.#days());
    // The gateway may not keep that many days, or no longer.
    if (problem === 'unavailable' && this.#days() && epoch === this.#epoch) ({ history, problem } = await this.#ask());
    if (epoch !== this.#epoch) return;
    this.#reading = false;
    this.problem = problem;
    if (history) this.history = history;
    if (problem && problem !== 'off') this.#due ??= this.#lastBegin + TIMING.retry;
    this.#onChange();
    this.#schedule();
  }

  /** @param {number} [days] @returns {Promise<{ history: UsageHistory | null, problem: ConnectionProblem | 'off' }>} */
  async #ask(days) {
    try {
      return { history: await this.#client.history(days), problem: null };
    } catch (error) {
      return { history: null, problem: error?.problem ?? 'unavailable' };
    }
  }

  #lookForNewDay() {
    const { history } = this;
    if (!history || document.visibilityState === 'hidden') return;
    const today = dateIn(history.timezone);
    if (today <= history.to || today === this.#newDay) return;
    this.#newDay = today;
    this.#want(TIMING.between);
  }
}

/** Today's date in a time zone, as in a history. @param {string} timeZone */
function dateIn(timeZone) {
  const parts = new Intl.DateTimeFormat('en', { timeZone, year: 'numeric', month: '2-digit', day: '2-digit' }).formatToParts();
  const { year, month, day } = Object.fromEntries(parts.map(({ type, value }) => [type, value]));
  return `${year}-${month}-${day}`;
}
