import { runGuarded } from './guarded.js';
import { admits, newlyWarned, Numbers } from './numbers.js';

/**
 * @typedef {import('../../client.d.ts').Usage} Usage
 * @typedef {import('../../client.d.ts').UsageState} UsageState
 * @typedef {import('../../client.d.ts').Connection} Connection
 * @typedef {import('../../client.d.ts').ConnectionProblem} ConnectionProblem
 * @typedef {import('../../client.d.ts').Refusal} Refusal
 */

/** What the application sees, and who has subscribed to it. */
export class State {
  /** @type {UsageState | null} */ current = null;
  /** @type {Connection} */ connection = 'idle';
  /** @type {ConnectionProblem} */ problem = null;
  /** @type {Numbers} */ numbers;
  /** @type {Refusal | null} */ #refused = null;
  /** @type {Usage | null} */ #shown = null; // by the last state
  /** @type {Set<(state: UsageState | null) => void>} */ #subscribers = new Set();
  #core;
  #target;

  /**
   * @param {import('./core.js').Core} core
   * @param {EventTarget} target gets the events
   */
  constructor(core, target) {
    this.#core = core;
    this.#target = target;
    this.numbers = new Numbers(core);
  }

  /** @param {(state: UsageState | null) => void} fn */
  subscribe(fn) {
    const subscriber = (state) => fn(state); // the same fn may subscribe twice
    this.#subscribers.add(subscriber);
    if (this.current) runGuarded(() => subscriber(this.current));
    return () => { this.#subscribers.delete(subscriber); };
  }

  /**
   * Takes a usage object of the present user, if it is not older than the known one, and
   * shows the state.
   * @param {Usage} usage
   * @param {import('./numbers.js').Source} source
   * @returns {boolean} whether it was taken
   */
  learn(usage, source, { keepRefused = false } = {}) {
    const accepted = this.numbers.accept(usage, source);
    if (accepted && !keepRefused && this.#refused && admits(usage, this.#refused.endpoint)) this.#refused = null;
    // Later, so that other tabs learn the numbers before they learn that a call is over.
    if (accepted) queueMicrotask(() => this.#core.pending.numbersChanged(usage.in_flight === 0 && !usage.stale));
    this.publish();
    return accepted;
  }

  /**
   * Shows that a call was refused for a limit.
   * @param {Refusal} refusal
   * @param {Usage | null} usage at that time, if the answer had it
   * @param {import('./session.js').Session | null} session that the call was made in
   */
  refuse(refusal, usage, session) {
    this.#refused = refusal;
    if (usage) this.#core.tabs.learn(session, usage, 'read', { keepRefused: true });
    else this.publish();
    if (this.current) this.#dispatch('usage-exceeded', { ...this.current, ...refusal });
  }

  /** Forgets the last refusal. */
  dismiss() {
    this.#refused = null;
    this.publish();
  }

  /** Asks what shows upgrades to do so. @param {string | null} endpoint */
  promptUpgrade(endpoint) {
    if (this.current) this.#dispatch('upgrade-prompt', { ...this.current, endpoint });
  }

  /** Shows kept numbers until others are known. @param {Usage} usage */
  restore(usage) {
    if (this.numbers.usage) return;
    this.numbers.restore(usage);
    this.publish();
  }

  /** Forgets what belongs to the previous user. */
  forgetUser() {
    this.#refused = null;
    this.numbers.dropFloor();
    this.numbers.forget();
    this.publish();
  }

  /** @param {Connection} connection @param {ConnectionProblem} [problem] */
  setConnection(connection, problem = null) {
    if (this.connection === connection && this.problem === problem) return;
    this.connection = connection;
    this.problem = problem;
    this.#dispatch('connection', { connection, problem });
    this.publish();
  }

  /** Sets the connection to live. It is published with the numbers that have arrived. */
  goLive() {
    this.connection = 'live';
    this.problem = null;
    this.#dispatch('connection', { connection: 'live', problem: null });
  }

  /** Makes a new state object and hands it to all subscribers. */
  publish() {
    if (this.#core.closed.aborted) return;
    const before = this.current;
    const shown = this.#shown;
    const usage = this.#shown = this.numbers.usage;
    const numbers = this.numbers.current();
    const state = this.current = numbers && {
      ...numbers,
      pending: this.#core.pending.total(),
      stale: numbers.stale || this.connection === 'offline',
      connection: this.connection,
      refused: this.#refused,
    };
    if (!state && !before) return;
    for (const fn of [...this.#subscribers]) runGuarded(() => fn(state));
    if (!state) return;
    this.#dispatch('usage', state);
    const warned = usage && shown ? newlyWarned(shown, usage) : [];
    if (warned.length) this.#dispatch('usage-warning', { ...state, warned });
  }

  /** @param {string} type @param {any} detail */
  #dispatch(type, detail) {
    runGuarded(() => this.#target.dispatchEvent(new CustomEvent(type, { detail })));
  }

  close() {
    this.numbers.dropFloor();
    this.#subscribers.clear();
  }
}
