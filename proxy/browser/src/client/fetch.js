import { noticeEnd } from './body.js';
import { sameUser } from './identity.js';
import { isUsage, raiseFloor } from './numbers.js';
import { awaitRest, beginCall, endCall, endWithNumbers } from './pending.js';
import { learnCharge, learnEndpoints } from './prices.js';
import { askToken, readSoon, renewToken } from './requests.js';
import { refuse } from './state.js';
import { runGuarded, unlessAborted } from './waiting.js';

/** @typedef {import('./core.js').Core} Core */
/** @typedef {import('./session.js').Session} Session */

// The application's calls. They get the token, show as pending until their response
// begins or, if its body tells their cost, has ended, and their responses tell how far the count is.
// Calls that bring a token of their own pass through untouched: they may be another user's.

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
 * @param {Core} core
 * @param {RequestInfo | URL} input
 * @param {import('../../client.d.ts').UsageRequestInit} [init]
 * @returns {Promise<Response>}
 */
export async function fetchMetered(core, input, init) {
  const { closed, credentials, getToken, send, unmetered } = core;
  const request = typeof input === 'object' && input && 'headers' in input ? input : null;
  let url;
  try {
    url = new URL(request ? request.url : String(input), globalThis.document?.baseURI);
  } catch { /* fetch reports it better */ }
  if (!url || !isOfGateway(core, url)) return send(input, init);
  const headers = new Headers(init?.headers ?? request?.headers);
  if (headers.has('Authorization')) return send(input, init);

  const route = `${(init?.method ?? request?.method ?? 'GET').toUpperCase()} ${url.pathname}`;
  // The usage API is never metered.
  const isUsageAPI = /^usage(\/|$)/.test(url.pathname.slice(core.base.pathname.length));
  const counts = !isUsageAPI && !unmetered.has(route) && !closed.aborted;
  const signal = init?.signal ?? request?.signal;
  let { token, session } = await unlessAborted(askToken(core, false), signal);
  // A Request says same-origin unless the application has chosen something else.
  const unchosen = !request || request.credentials === 'same-origin';
  const sendWithToken = (/** @type {RequestInfo | URL} */ from) => {
    if (token) headers.set('Authorization', `Bearer ${token}`);
    return send(from, { ...(credentials && unchosen && { credentials }), ...init, headers });
  };
  // Not before the token is known: the call may be the first of another user.
  const call = counts && session ? beginCall(core, route, init?.usageEndpoint) : null;
  try {
    const again = token && getToken ? copyToRepeat(input, request, init) : null;
    let response = await sendWithToken(input);
    if (response.status === 401 && again) {
      // If the application has no other token of this user, it gets the 401.
      const another = await unlessAborted(renewToken(core, token), signal).catch(() => null);
      signal?.throwIfAborted();
      const known = session?.identity;
      if (another?.token && another.token !== token && (!known || sameUser(known, another.session?.identity))) {
        response.body?.cancel();
        ({ token, session } = another);
        response = await sendWithToken(again);
      }
    }
    let answer = response;
    // The gateway counts before it sends the status line, so the count has moved by now.
    runGuarded(() => { answer = readResponse(core, route, call, response, session); });
    return answer;
  } finally {
    if (call && call.rest === undefined) endCall(core, call);
  }
}

/** @param {Core} core @param {URL} url */
function isOfGateway({ base }, url) {
  return url.origin === base.origin && `${url.pathname}/`.startsWith(base.pathname);
}

/**
 * @param {Core} core
 * @param {string} route
 * @param {import('./pending.js').Call | null} call null: it does not show as pending
 * @param {Response} response
 * @param {Session | null} session of the call's token
 * @returns {Response} for the application
 */
function readResponse(core, route, call, response, session) {
  const { connection, getToken, unmetered } = core;
  // Ignore answers of other servers, and those that were meant for another user.
  const ours = (!response.redirected || isOfGateway(core, new URL(response.url))) && session === core.session;
  const header = (/** @type {string} */ name) => (ours && response.headers.get(name)) || '';
  const [, used, limit] = /^(\d+)\/(\d+|unlimited)$/.exec(header('X-Usage')) ?? [];
  if (used) {
    core.sawUsageHeader = true;
    unmetered.delete(route);
    // Without getToken nothing tells whom the call was made for.
    if (response.ok && getToken) raiseFloor(core, Number(used), limit === 'unlimited' ? null : Number(limit));
  } else if (response.ok && core.sawUsageHeader && unmetered.size < 100) {
    unmetered.add(route);
  }
  const [cost, rest] = ['X-Usage-Cost', 'X-Usage-Pending'].map((name) => /^\d+$/.test(header(name)) && response.ok ? Number(header(name)) : NaN);
  if (response.ok && connection !== 'live') readSoon(core);
  if ((response.status === 429 || response.status === 403) && header('Content-Type').startsWith('application/problem+json')) {
    readRefusal(core, route, response.clone(), session).catch(() => {}); // a body that broke off
  }
  if (!call) return response;
  if (cost >= 0) learnCharge(core, call, cost, rest || 0);
  if (!(rest > 0) || !response.body) return response;
  awaitRest(core, call, rest);
  return noticeEnd(response, () => {
    endWithNumbers(core, call);
    if (core.connection !== 'live') readSoon(core);
  });
}

/** @param {Core} core @param {string} route @param {Response} response a copy @param {Session | null} session */
async function readRefusal(core, route, response, session) {
  const problem = await response.json();
  const { detail = '', endpoint = null, reason = null, type, upgrade_url = null, usage } = problem;
  if (endpoint) learnEndpoints(core, route, [endpoint]);
  const refused = reason === 'not_in_plan' || String(type).endsWith('http-problem-types#quota-exceeded');
  const named = isUsage(usage) ? usage : null;
  if (!refused || session !== core.session || (named && session?.identity && !sameUser(named, session.identity))) return;
  refuse(core, {
    endpoint,
    violated: problem['violated-policies'] ?? [],
    reason,
    detail,
    upgrade_url,
    retry_after: Number(response.headers.get('Retry-After')) || null,
  }, named, session);
}
