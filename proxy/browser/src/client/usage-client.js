import { gatewayBase } from './base.js';
import { Core } from './core.js';
import { keepNumbers } from './memory.js';
import { admits } from './numbers.js';

/**
 * @typedef {import('../../client.d.ts').UsageState} UsageState
 * @typedef {import('../../client.d.ts').UsageClientOptions} UsageClientOptions
 * @typedef {import('./timing.js').TIMING} Timing
 */

/**
 * @param {UsageClientOptions & { timing?: Partial<Timing> }} [options]
 * @returns {UsageClient}
 */
export function createUsageClient(options) {
  return new UsageClient(options);
}

/** The public face of a client. client.d.ts describes it. */
export class UsageClient extends EventTarget {
  /** @type {Core} */ #core;

  /** @param {UsageClientOptions & { timing?: Partial<Timing> }} [options] timing is for tests */
  constructor({ baseUrl, getToken, credentials, fetch = globalThis.fetch, poll = false, timing } = {}) {
    super();
    // fetch is bound now, in case the application later puts this client's fetch in its place.
    const core = this.#core = new Core(this, gatewayBase(baseUrl), { getToken, credentials, poll, send: fetch.bind(globalThis) }, timing);
    if (!core.follows) return;
    const { closed: signal, tabs } = core;
    /** @param {EventTarget | undefined} target @param {string} type @param {(event: any) => void} handle */
    const on = (target, type, handle) => target?.addEventListener?.(type, handle, { signal });
    on(globalThis.document, 'visibilitychange', () => tabs.visibilityChanged());
    on(globalThis, 'online', () => tabs.session?.wake());
    // A page that holds a lock or a connection cannot enter the back/forward cache.
    on(globalThis, 'pagehide', () => {
      keepNumbers(core);
      tabs.endSession();
    });
    on(globalThis, 'pageshow', (e) => e.persisted && tabs.start());
    queueMicrotask(() => tabs.start());
  }

  get current() { return this.#core.state.current; }

  get connection() { return this.#core.state.connection; }

  get problem() { return this.#core.state.problem; }

  get baseUrl() { return this.#core.base.href; }

  /** @param {(state: UsageState | null) => void} fn */
  subscribe = (fn) => this.#core.state.subscribe(fn);

  /** @returns {Promise<UsageState | null>} */
  refresh = async () => {
    await this.#core.requests.refresh();
    return this.current;
  };

  /** Ends streams, timers and locks. `fetch` still works, but its calls no longer show as pending. */
  close = () => this.#core.close();

  /** @param {string} [endpoint] */
  canSend = (endpoint) => !this.current || admits(this.current, endpoint ?? null);

  /** @param {number} [days] */
  history = (days) => this.#core.requests.history(days);

  /** @param {string | null} [endpoint] */
  promptUpgrade = (endpoint = null) => this.#core.state.promptUpgrade(endpoint);

  dismiss = () => this.#core.state.dismiss();

  /** @param {RequestInfo | URL} input @param {import('../../client.d.ts').UsageRequestInit} [init] */
  fetch = async (input, init) => this.#core.calls.fetch(input, init);
}
