import { TIMING } from './timing.js';

/**
 * @typedef {import('../../client.d.ts').Usage} Usage
 * @typedef {import('../../client.d.ts').UsageState} UsageState
 * @typedef {import('../../client.d.ts').UsageClientOptions} UsageClientOptions
 */

/** What the parts of a client share: its settings, and what it knows. */
export class Core {
  /** Tells the tabs apart, and which is older. */
  id = Date.now().toString(36) + Math.random().toString(36).slice(2);
  #life = new AbortController();
  /** @type {AbortSignal} aborted by end */ closed = this.#life.signal;

  // Shown to the application, see state.js.
  /** @type {UsageState | null} */ current = null;
  /** @type {import('../../client.d.ts').Connection} */ connection = 'idle';
  /** @type {import('../../client.d.ts').ConnectionProblem} */ problem = null;
  /** @type {import('../../client.d.ts').Refusal | null} */ refused = null;
  /** @type {Set<(state: UsageState | null) => void>} */ subscribers = new Set();
  /** @type {Usage | null} the one that current was made of */ shown = null;

  // The newest numbers, see numbers.js.
  /** @type {Usage | null} */ usage = null;
  /** @type {import('./numbers.js').Source} */ source = null;
  heldBackSince = 0; // since when every arriving object has been older than usage
  /** @type {{ used: number, limit: number | null, start: string | null, timer: any } | null} */ floor = null;

  // The calls that are running, see pending.js.
  /** @type {Set<import('./pending.js').Call>} of this tab */ calls = new Set();
  era = 0; // how often the user has changed: calls of the previous one are not shown to the next
  /** @type {Map<string, { count: number, units: number, at: number }>} */ callsElsewhere = new Map();
  /** @type {any} */ callsTimer;

  // What they cost, see prices.js.
  /** @type {Map<string, string[]>} the endpoints that a route, as "METHOD path", may count under */ candidates = new Map();
  /** @type {Usage['endpoints']} as last looked at */ endpoints = {};
  costs = ''; // of all endpoints, as text

  // The token, see requests.js: getToken has been called so often, and that call of it is the last that
  // has answered.
  asked = 0;
  answered = 0;
  /** @type {ReturnType<import('./requests.js').askToken> | null} */ renewal = null;
  /** @type {any} */ refreshTimer;

  // The tabs, see tabs.js.
  /** @type {import('./session.js').Session | null} */ session = null;
  /** @type {import('./session.js').Session | null} after the present one has ended */ lastSession = null;
  failures = 0; // how often in a row the gateway has not named the user
  /** @type {any} */ graceTimer;

  // Routes that are not metered, see fetch.js.
  /** @type {Set<string>} */ unmetered = new Set();
  sawUsageHeader = false;

  /**
   * @param {EventTarget} target gets the events
   * @param {URL} base of the gateway; its path ends with a slash
   * @param {Pick<UsageClientOptions, 'getToken' | 'credentials' | 'poll'> & { send: typeof fetch }} options
   * @param {Partial<typeof TIMING>} [timing]
   */
  constructor(target, base, { getToken, credentials, poll, send }, timing) {
    this.target = target;
    this.base = base;
    this.getToken = getToken;
    this.credentials = credentials;
    this.poll = poll;
    this.send = send;
    // On a server nobody watches.
    this.follows = poll || typeof document !== 'undefined';
    this.timing = { ...TIMING, ...timing };
  }

  end() { this.#life.abort(); }
}
