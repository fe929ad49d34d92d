import { pageURL } from './base.js';
import { noticeEnd } from './body.js';
import { isRefreshOf, sameUser } from './identity.js';
import { isUsage, raiseFloor } from './numbers.js';
import { awaitRest, beginCall, endCall, endWithNumbers } from './pending.js';
import { learnCharge, learnEndpoints } from './prices.js';
import { askToken, read, readSoon, renewToken } from './requests.js';
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
  const { credentials, getToken, send } = core;
  const request = /** @type {any} */ (input)?.headers ? /** @type {Request} */ (input) : null;
  /** @param {'headers' | 'method' | 'signal'} name @returns {any} */
  const given = (name) => init?.[name] ?? request?.[name];
  const headers = new Headers(given('headers'));
  let url;
  try {
    url = new URL(request?.url ?? input, pageURL());
  } catch { /* fetch reports it better */ }
  if (!url || !isOfGateway(core, url) || headers.has('Authorization')) return send(input, init);

  const route = `${(given('method') ?? 'GET').toUpperCase()} ${url.pathname}`;
  // The usage API is never metered.
  const counts = !/^usage(\/|$)/.test(url.pathname.slice(core.base.pathname.length)) && !core.unmetered.has(route) && !core.closed.aborted;
  const signal = given('signal');
  const sent_at = Date.now(); // for the application, the call begins here
  let { token, session } = await unlessAborted(askToken(core, false), signal);
  const sendWithToken = (/** @type {RequestInfo | URL} */ from) => {
    if (token) headers.set('Authorization', `Bearer ${token}`);
    // A Request says same-origin unless the application has chosen something else.
    const unchosen = credentials && (!request || request.credentials === 'same-origin');
    return send(from, { ...(unchosen && { credentials }), ...init, headers });
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
      if (another?.token && another.token !== token && (known ? sameUser(known, another.session?.identity) : isRefreshOf(null, token, another.token))) {
        response.body?.cancel();
        ({ token, session } = another);
        response = await sendWithToken(again);
      }
    }
    // The gateway counts before it sends the status line, so the count has moved by now.
    return runGuarded(() => readResponse(core, route, call, response, session, sent_at)) ?? response;
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
 * @param {number} sent_at when the application made the call
 * @returns {Response} for the application
 */
function readResponse(core, route, call, response, session, sent_at) {
  // Ignore answers of other servers, and those that were meant for another user.
  const ours = (!response.redirected || isOfGateway(core, new URL(response.url))) && session === core.session;
  const header = (/** @type {string} */ name) => (ours && response.headers.get(name)) || '';
  const used = parseInt(header('X-Usage'));
  if (used >= 0) core.unmetered.delete(route);
  if (!response.ok) {
    if (response.status === 401 && !core.getToken) read(core); // tells whether somebody is still signed in
    if (/^application\/problem\+json/.test(header('Content-Type'))) {
      readRefusal(core, route, response.clone(), session, sent_at).catch(() => {}); // a body that broke off
    }
    return response;
  }
  // Without getToken nothing tells whom the call was made for.
  if (used >= 0 && core.getToken) raiseFloor(core, used);
  if (!(used >= 0)) core.unmetered.add(route);
  readSoon(core);
  const cost = parseInt(header('X-Usage-Cost'));
  const rest = parseInt(header('X-Usage-Pending')) || 0;
  if (call && cost >= 0) learnCharge(core, call, cost, rest);
  if (!call || !rest || !response.body) return response;
  awaitRest(core, call, rest);
  return noticeEnd(response, () => {
    endWithNumbers(core, call);
    readSoon(core);
  });
}

/** @param {Core} core @param {string} route @param {Response} response a copy @param {Session | null} session @param {number} sent_at */
async function readRefusal(core, route, response, session, sent_at) {
  const { detail = '', endpoint = null, reason = null, type, upgrade_url = null, usage, 'violated-policies': violated = [] } = await response.json();
  if (endpoint) learnEndpoints(core, route, [endpoint]);
  const refused = reason === 'not_in_plan' || /#quota-exceeded$/.test(type);
  const named = isUsage(usage) ? usage : null;
  if (!refused || session !== core.session) return;
  const ofAnother = () => named && core.usage && !sameUser(named, core.usage);
  // Somebody else may have signed in, by a cookie.
  if (ofAnother()) await read(core);
  if (ofAnother()) return;
  refuse(core, {
    endpoint, violated, reason, detail, upgrade_url, sent_at,
    retry_after: Number(response.headers.get('Retry-After')) || null,
  }, named, core.session);
}
