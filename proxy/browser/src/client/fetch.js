import { noticeEnd } from './body.js';
import { runGuarded } from './guarded.js';
import { identityOf, sameUser } from './identity.js';
import { isUsage } from './numbers.js';
import { unlessAborted } from './waiting.js';

const NOT_IN_PLAN = 'not_in_plan';
const QUOTA_EXCEEDED = 'http-problem-types#quota-exceeded';

/**
 * Returns what to send if a call has to be repeated; null: its body can be sent only once, or it would
 * have to be kept in memory for that.
 * @param {RequestInfo | URL} input
 * @param {Request | null} request input, if it is one
 * @param {RequestInit & { duplex?: string }} [init]
 */
function copyToRepeat(input, request, init) {
  if (!request || init?.body) return init?.duplex ? null : input; // without duplex, fetch takes no stream
  const inMemory = !request.body || /json|text|urlencoded/.test(request.headers.get('Content-Type') ?? '');
  return inMemory ? request.clone() : null;
}

/**
 * The application's calls. They get the token, show as pending until their response
 * begins or, if its body tells their cost, has ended, and their responses tell how far the count is. Calls that bring a token of their
 * own pass through untouched: they may be another user's.
 */
export class CallFetcher {
  /** Calls, as "METHOD path", that succeeded without X-Usage: they are not metered. */
  #unmetered = new Set();
  #sawUsageHeader = false;
  #core;

  /** @param {import('./core.js').Core} core */
  constructor(core) {
    this.#core = core;
  }

  /**
   * @param {RequestInfo | URL} input
   * @param {import('../../client.d.ts').UsageRequestInit} [init]
   * @returns {Promise<Response>}
   */
  async fetch(input, init) {
    const { closed, credentials, getToken, pending, requests, send } = this.#core;
    const request = typeof input === 'object' && input && 'headers' in input ? input : null;
    let url;
    try {
      url = new URL(request ? request.url : String(input), globalThis.document?.baseURI);
    } catch { /* fetch reports it better */ }
    if (!url || !this.#isOfGateway(url)) return send(input, init);
    const headers = new Headers(init?.headers ?? request?.headers);
    if (headers.has('Authorization')) return send(input, init);

    const route = `${(init?.method ?? request?.method ?? 'GET').toUpperCase()} ${url.pathname}`;
    const counts = !this.#isUsageAPI(url) && !this.#unmetered.has(route) && !closed.aborted;
    const signal = init?.signal ?? request?.signal;
    const sentAt = Date.now();
    let { token, session } = await unlessAborted(requests.token(false), signal);
    // A Request says same-origin unless the application has chosen something else.
    const unchosen = !request || request.credentials === 'same-origin';
    const sendWith = (/** @type {RequestInfo | URL} */ from) => {
      if (token) headers.set('Authorization', `Bearer ${token}`);
      return send(from, { ...(credentials && unchosen && { credentials }), ...init, headers });
    };
    // Not before the token is known: the call may be the first of another user.
    let call = counts && session ? pending.begin(route, init?.usageEndpoint) : null;
    try {
      const again = token && getToken ? copyToRepeat(input, request, init) : null;
      let response = await sendWith(input);
      if (response.status === 401 && again) {
        // If the application has no other token of this user, it gets the 401.
        const another = await unlessAborted(requests.renew(token), signal).catch(() => null);
        signal?.throwIfAborted();
        const identity = another?.session?.identity;
        if (another?.token && another.token !== token && (!session?.identity || (identity && sameUser(session.identity, identity)))) {
          response.body?.cancel();
          ({ token, session } = another);
          response = await sendWith(again);
        }
      }
      // The gateway counts before it sends the status line, so the count has moved by now.
      const answered = call;
      call = null;
      let answer = response;
      runGuarded(() => { answer = this.#readResponse(route, answered, response, session, sentAt); });
      return answer;
    } finally {
      if (call) pending.end(call);
    }
  }

  /** @param {URL} url */
  #isOfGateway(url) {
    const { base } = this.#core;
    return url.origin === base.origin && `${url.pathname}/`.startsWith(base.pathname);
  }

  /** The usage API is never metered. @param {URL} url under the gateway's base */
  #isUsageAPI(url) {
    const path = url.pathname.slice(this.#core.base.pathname.length);
    return path === 'usage' || path.startsWith('usage/');
  }

  /**
   * @param {string} route
   * @param {import('./pending.js').Call | null} call null: it does not show as pending
   * @param {Response} response
   * @param {import('./session.js').Session | null} session of the call's token
   * @param {number} sentAt when the application made the call
   * @returns {Response} for the application
   */
  #readResponse(route, call, response, session, sentAt) {
    const { getToken, pending, prices, requests, state, tabs } = this.#core;
    // Ignore answers of other servers, and those that were meant for another user.
    const ours = (!response.redirected || this.#isOfGateway(new URL(response.url))) && session === tabs.session;
    const header = ours ? response.headers.get('X-Usage') : null;
    const [, used, limit] = /^(\d+)\/(\d+|unlimited)$/.exec(header ?? '') ?? [];
    if (used !== undefined) {
      this.#sawUsageHeader = true;
      this.#unmetered.delete(route);
      // Without getToken nothing tells whom the call was made for.
      if (response.ok && getToken) state.numbers.raiseFloor(Number(used), limit === 'unlimited' ? null : Number(limit));
    } else if (response.ok && this.#sawUsageHeader && this.#unmetered.size < 100) {
      this.#unmetered.add(route);
    }
    const number = (/** @type {string} */ name) => Number((ours && response.ok && /^\d+$/.exec(response.headers.get(name) ?? '')?.[0]) || NaN);
    let answer = response;
    if (call) {
      const [cost, rest] = [number('X-Usage-Cost'), number('X-Usage-Pending')];
      if (cost >= 0) prices.learnCharge(call, cost, rest || 0);
      // Either also publishes the raised number.
      if (rest > 0 && response.body) {
        pending.awaitRest(call, rest);
        answer = noticeEnd(response, () => {
          pending.endWithNumbers(call);
          if (state.connection !== 'live') requests.refreshSoon(50);
        });
      } else {
        pending.end(call);
      }
    }
    if (response.ok && state.connection !== 'live') requests.refreshSoon(50);
    if (ours && (response.status === 429 || response.status === 403) && response.headers.get('Content-Type')?.startsWith('application/problem+json')) {
      this.#readRefusal(route, response.clone(), session, sentAt).catch(() => {}); // a body that broke off
    }
    return answer;
  }

  /** @param {string} route @param {Response} response a copy @param {import('./session.js').Session | null} session @param {number} sentAt */
  async #readRefusal(route, response, session, sentAt) {
    const { prices, state, tabs } = this.#core;
    const problem = await response.json();
    if (typeof problem.endpoint === 'string') prices.learnEndpoint(route, problem.endpoint);
    const refused = problem.reason === NOT_IN_PLAN || String(problem.type).endsWith(QUOTA_EXCEEDED);
    if (!refused || session !== tabs.session) return;
    const usage = isUsage(problem.usage) ? problem.usage : null;
    if (usage && session?.identity && !sameUser(identityOf(usage), session.identity)) return;
    state.refuse({
      endpoint: problem.endpoint ?? null,
      violated: problem['violated-policies'] ?? [],
      reason: problem.reason ?? null,
      detail: problem.detail ?? '',
      upgrade_url: problem.upgrade_url ?? null,
      retry_after: Number(response.headers.get('Retry-After')) || null,
      sent_at: sentAt,
    }, usage, session);
  }
}
