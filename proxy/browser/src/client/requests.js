import { identify } from './identity.js';
import { isUsage } from './numbers.js';
import { startDeadline, unlessAborted } from './waiting.js';

/** @typedef {import('../../client.d.ts').ConnectionProblem} ConnectionProblem */

/** The token was refused, or there is none. */
class Unauthorized extends Error {}

/** getToken threw. */
class TokenError extends Error {}

/** @param {any} error @returns {ConnectionProblem} */
export function problemOf(error) {
  if (error instanceof Unauthorized) return 'unauthorized';
  return error instanceof TokenError ? 'token' : 'unreachable';
}

/** The client's own requests, and the token that they carry. */
export class Requests {
  #core;
  #refreshTimer;

  /** @param {import('./core.js').Core} core */
  constructor(core) {
    this.#core = core;
  }

  /**
   * Asks the application for the token. If it belongs to somebody else than the last one,
   * another session begins.
   * @param {boolean} refresh the last one was refused, or has expired
   * @returns {Promise<string | null>}
   */
  async token(refresh) {
    const { getToken, tabs } = this.#core;
    const token = getToken ? (await getToken({ refresh })) || null : null;
    tabs.useIdentity(identify(token));
    return token;
  }

  /**
   * Sends a usage request. After a 401 it asks for another token and tries once more.
   * @param {string} path
   * @param {AbortSignal} signal
   */
  async send(path, signal, { accept = 'application/json', refresh = false, onToken = () => {} } = {}) {
    const { base, getToken, send } = this.#core;
    const url = new URL(path, base);
    /** @param {string | null} token */
    const sendWith = (token) => {
      signal.throwIfAborted();
      onToken();
      const headers = { Accept: accept, ...(token && { Authorization: `Bearer ${token}` }) };
      return send(url, { headers, signal, cache: 'no-store' });
    };
    /** @param {boolean} again */
    const askToken = (again) => unlessAborted(this.token(again).catch((cause) => {
      throw new TokenError('getToken', { cause });
    }), signal);
    const token = await askToken(refresh);
    if (getToken && !token) throw new Unauthorized();
    let response = await sendWith(token);
    if (response.status === 401 && getToken) {
      response.body?.cancel();
      const another = await askToken(true);
      if (!another || another === token) throw new Unauthorized();
      response = await sendWith(another);
    }
    if (response.status === 401) {
      response.body?.cancel();
      throw new Unauthorized();
    }
    return response;
  }

  /**
   * Reads GET /usage.
   * @param {AbortSignal} signal
   * @returns {Promise<ConnectionProblem>} null: it was answered
   */
  async read(signal) {
    const { state, tabs, timing } = this.#core;
    const limit = startDeadline(signal, timing.firstEvent);
    try {
      let session;
      const response = await this.send('usage', limit.signal, { onToken: () => { session = tabs.session; } });
      if (!response.ok) {
        response.body?.cancel();
        return 'unavailable';
      }
      const usage = await response.json();
      if (!isUsage(usage)) return 'unavailable';
      if (!signal.aborted && session === tabs.session) state.learn(usage, 'read');
      return null;
    } catch (error) {
      return problemOf(error);
    } finally {
      limit.end();
    }
  }

  /** Reads GET /usage, unless the client is closed. */
  async refresh() {
    const { closed } = this.#core;
    if (!closed.aborted) await this.read(closed);
  }

  /** @param {number} ms */
  refreshSoon(ms) {
    clearTimeout(this.#refreshTimer);
    this.#refreshTimer = setTimeout(() => this.refresh(), ms);
  }

  close() { clearTimeout(this.#refreshTimer); }
}
