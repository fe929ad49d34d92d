import { isUsage } from './numbers.js';
import { startDeadline, unlessAborted } from './waiting.js';

/** @typedef {import('../../client.d.ts').ConnectionProblem} ConnectionProblem */
/** @typedef {import('./session.js').Session} Session */

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
  // getToken has been called so often, and this call of it is the last that has answered.
  #asked = 0;
  #answered = 0;
  /** @type {ReturnType<Requests['token']> | null} */ #renewal = null;

  /** @param {import('./core.js').Core} core */
  constructor(core) {
    this.#core = core;
  }

  /**
   * Asks the application for the token. If it may belong to somebody else than the last one,
   * another session begins.
   * @param {boolean} refresh the last one was refused, or has expired
   * @returns {Promise<{ token: string | null, session: Session | null }>} session is the one
   *   that answers to the token belong to, null if they are not to be taken over
   */
  async token(refresh) {
    const { getToken, tabs } = this.#core;
    const asked = ++this.#asked;
    const token = getToken ? (await getToken({ refresh })) || null : null;
    // A call that was made earlier and answers later may have the previous user's token.
    if (asked > this.#answered) {
      this.#answered = asked;
      tabs.useToken(token);
    }
    return { token, session: tabs.session?.token === token ? tabs.session : null };
  }

  /**
   * Gets another token in place of one that was refused or has expired. However many requests it was
   * refused to, the application is asked once: a refresh token is often good for one use.
   * @param {string | null} refused
   */
  async renew(refused) {
    const { session } = this.#core.tabs;
    if (session && session.token !== refused) return { token: session.token, session };
    this.#renewal ??= this.token(true).finally(() => { this.#renewal = null; });
    return this.#renewal;
  }

  /**
   * Sends a usage request. After a 401 it asks for another token and tries once more.
   * @param {string} path
   * @param {AbortSignal} signal
   * @param {{ accept?: string, refresh?: boolean, first?: Session }} [options] with first, its
   *   token is used before the application is asked for one
   * @returns {Promise<{ response: Response, session: Session | null }>} session is that of the token
   */
  async send(path, signal, { accept = 'application/json', refresh = false, first } = {}) {
    const { base, credentials, getToken, send, tabs } = this.#core;
    const url = new URL(path, base);
    /** @param {string | null} token */
    const sendWith = (token) => {
      signal.throwIfAborted();
      const headers = { Accept: accept, ...(token && { Authorization: `Bearer ${token}` }) };
      return send(url, { headers, signal, cache: 'no-store', ...(credentials && { credentials }) });
    };
    /** @param {ReturnType<Requests['token']>} answer */
    const patiently = (answer) => unlessAborted(answer.catch((cause) => {
      throw new TokenError('getToken', { cause });
    }), signal);
    let { token, session } = first ? { token: first.token, session: first } : await patiently(refresh ? this.renew(tabs.session?.token ?? null) : this.token(false));
    if (getToken && !token) throw new Unauthorized();
    let response = await sendWith(token);
    if (response.status === 401 && getToken) {
      response.body?.cancel();
      const another = await patiently(this.renew(token));
      if (!another.token || another.token === token) throw new Unauthorized();
      ({ token, session } = another);
      response = await sendWith(token);
    }
    if (response.status === 401) {
      response.body?.cancel();
      throw new Unauthorized();
    }
    return { response, session };
  }

  /**
   * Reads GET /usage.
   * @param {AbortSignal} signal
   * @param {Session} [first] see send
   * @returns {Promise<ConnectionProblem>} null: it was answered
   */
  async read(signal, first) {
    const { tabs, timing } = this.#core;
    const limit = startDeadline(signal, timing.firstEvent);
    try {
      const { response, session } = await this.send('usage', limit.signal, { first });
      if (!response.ok) {
        response.body?.cancel();
        return 'unavailable';
      }
      const usage = await response.json();
      if (!isUsage(usage)) return 'unavailable';
      if (!signal.aborted) tabs.learn(session, usage, 'read');
      return null;
    } catch (error) {
      return problemOf(error);
    } finally {
      limit.end();
    }
  }

  /**
   * Reads GET /usage/history.
   * @param {number} [days]
   * @returns {Promise<import('../../client.d.ts').UsageHistory>} rejects with a problem
   */
  async history(days) {
    const limit = startDeadline(this.#core.closed, this.#core.timing.firstEvent);
    /** @type {any} */ let answer, problem, cause;
    try {
      const { response } = await this.send(`usage/history${days === undefined ? '' : `?days=${days}`}`, limit.signal);
      answer = await response.json().catch(() => null);
      if (response.ok && Array.isArray(answer?.days)) return answer;
      problem = response.status === 404 && answer?.status === 404 ? 'off' : 'unavailable';
    } catch (error) {
      problem = problemOf(cause = error);
    } finally {
      limit.end();
    }
    throw Object.assign(new Error(answer?.detail ?? problem, { cause }), { problem });
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
