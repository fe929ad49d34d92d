import { TIMING } from './timing.js';

/**
 * @typedef {import('../../client.d.ts').Usage} Usage
 * @typedef {import('../../client.d.ts').UsageState} UsageState
 * @typedef {import('../../client.d.ts').UsageClientOptions} UsageClientOptions
 * @typedef {import('./session.js').Session} Session
 * @typedef {ReturnType<typeof newCore> & Later} Core
 * @typedef {object} Later what a client does not have at its beginning
 * @property {any} [callsTimer] see pending.js
 * @property {any} [readTimer] see requests.js
 * @property {any} [graceTimer] see tabs.js
 * @property {ReturnType<typeof import('./requests.js').askToken> | null} [renewal] see requests.js
 * @property {Session | null} [lastSession] after the present one has ended, see tabs.js
 * @property {number} [heldBackSince] since when every arriving object has been older, see numbers.js
 * @property {{ used: number, timer: any } | null} [floor] see numbers.js
 */

/**
 * Makes what the parts of a client share: its settings, and what it knows.
 * @param {EventTarget} target gets the events
 * @param {URL} base of the gateway; its path ends with a slash
 * @param {Pick<UsageClientOptions, 'getToken' | 'credentials' | 'poll'> & { send: typeof fetch, timing?: Partial<typeof TIMING> }} options
 */
export function newCore(target, base, { getToken, credentials, poll, send, timing }) {
  const life = new AbortController();
  return {
    target,
    base,
    getToken,
    credentials,
    poll,
    send,
    timing: { ...TIMING, ...timing },
    life,
    closed: life.signal,
    /** Tells the tabs apart, and which is older. */
    id: `${Date.now()}${Math.random()}`,
    // On a server nobody watches.
    follows: poll || globalThis.document,

    // Shown to the application, see state.js.
    current: /** @type {UsageState | null} */ (null),
    connection: /** @type {import('../../client.d.ts').Connection} */ ('idle'),
    problem: /** @type {import('../../client.d.ts').ConnectionProblem} */ (null),
    refused: /** @type {import('../../client.d.ts').Refusal | null} */ (null),
    subscribers: /** @type {Set<(state: UsageState | null) => void>} */ (new Set()),

    // The newest numbers, see numbers.js.
    usage: /** @type {Usage | null} */ (null),

    // The running calls of this tab, and of the others, see pending.js.
    calls: /** @type {Set<import('./pending.js').Call>} */ (new Set()),
    otherCalls: /** @type {Map<string, { count: number, units: number, at: number }>} */ (new Map()),

    // The endpoints that a route, as "METHOD path", may count under, and the costs of all, as text: see prices.js.
    candidates: /** @type {Map<string, string[]>} */ (new Map()),
    costs: '',

    // getToken has been called so often, and that call of it is the last that has answered: see requests.js.
    asked: 0,
    answered: 0,

    // See tabs.js. failures: how often in a row the gateway
    // has not named the user.
    session: /** @type {Session | null} */ (null),
    failures: 0,

    // Routes that are not metered, see fetch.js.
    unmetered: /** @type {Set<string>} */ (new Set()),
  };
}
