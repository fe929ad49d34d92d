import { gatewayBase } from './base.js';
import { newCore } from './core.js';
import { fetchMetered } from './fetch.js';
import { dropKeptNumbers, keepNumbers } from './memory.js';
import { admits } from './numbers.js';
import { read, readHistory } from './requests.js';
import { wake } from './session.js';
import { dismiss, dispatch } from './state.js';
import { checkUser, endSession, start, visibilityChanged } from './tabs.js';
import { runGuarded } from './waiting.js';

/**
 * @typedef {import('../../client.d.ts').UsageState} UsageState
 * @typedef {import('../../client.d.ts').UsageClientOptions} UsageClientOptions
 * @typedef {import('./timing.js').TIMING} Timing
 */

/**
 * @param {UsageClientOptions & { timing?: Partial<Timing> }} [options]
 * @returns {UsageClient}
 */
export const createUsageClient = (options) => new UsageClient(options);

/** The public face of a client. client.d.ts describes it. */
export class UsageClient extends EventTarget {
  /** @type {import('./core.js').Core} */ #core;

  /** @param {UsageClientOptions & { timing?: Partial<Timing> }} [options] timing is for tests */
  constructor({ baseUrl, getToken, credentials, fetch = globalThis.fetch, poll = false, timing } = {}) {
    super();
    // fetch is bound now, in case the application later puts this client's fetch in its place.
    const core = this.#core = newCore(this, gatewayBase(baseUrl), { getToken, credentials, poll, send: fetch.bind(globalThis), timing });
    if (!core.follows) return;
    /** @param {EventTarget | undefined} target @param {string} type @param {(event: any) => void} handle */
    const on = (target, type, handle) => target?.addEventListener?.(type, handle, { signal: core.closed });
    on(globalThis.document, 'visibilitychange', () => visibilityChanged(core));
    on(globalThis, 'online', () => wake(core.session));
    // A page that holds a lock or a connection cannot enter the back/forward cache.
    on(globalThis, 'pagehide', () => {
      keepNumbers(core);
      endSession(core);
    });
    on(globalThis, 'pageshow', (e) => e.persisted && start(core).then(() => checkUser(core)));
    queueMicrotask(() => start(core));
  }

  get current() { return this.#core.current; }

  get connection() { return this.#core.connection; }

  get problem() { return this.#core.problem; }

  get baseUrl() { return this.#core.base.href; }

  /** @param {(state: UsageState | null) => void} fn */
  subscribe = (fn) => {
    const { current, subscribers } = this.#core;
    const subscriber = (/** @type {any} */ state) => fn(state); // the same fn may subscribe twice
    subscribers.add(subscriber);
    if (current) runGuarded(() => subscriber(current));
    return () => { subscribers.delete(subscriber); };
  };

  /** @returns {Promise<UsageState | null>} */
  refresh = async () => {
    await read(this.#core);
    return this.current;
  };

  /** Ends streams, timers and locks. `fetch` still works, but its calls no longer show as pending. */
  close = () => {
    const core = this.#core;
    if (core.session) dropKeptNumbers(core);
    endSession(core);
    core.life.abort();
    clearInterval(core.callsTimer);
  };

  /** @param {string} [endpoint] */
  canSend = (endpoint) => !this.current || admits(this.current, endpoint);

  /** @param {number} [days] */
  history = (days) => readHistory(this.#core, days);

  /** @param {string | null} [endpoint] */
  promptUpgrade = (endpoint = null) => {
    if (this.current) dispatch(this.#core, 'upgrade-prompt', { ...this.current, endpoint });
  };

  dismiss = () => dismiss(this.#core);

  /** @param {RequestInfo | URL} input @param {import('../../client.d.ts').UsageRequestInit} [init] */
  fetch = (input, init) => fetchMetered(this.#core, input, init);
}
