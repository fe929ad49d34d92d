import { isUsage } from './numbers.js';
import { learn, signedOut, useToken } from './tabs.js';
import { startDeadline, unlessAborted, within } from './waiting.js';

/** @typedef {import('./core.js').Core} Core */
/** @typedef {import('./session.js').Session} Session */
/** @typedef {import('../../client.d.ts').ConnectionProblem} ConnectionProblem */
/** @typedef {{ token: string | null, session: Session | null }} TokenAnswer session is that of the token, null if it is not to be taken over */

// The client's own requests, and the token that they carry.

/** @param {string} problem @param {string} [text] */
const failure = (problem, text = problem) => Object.assign(new Error(text), { problem });

/** @param {any} error @returns {Exclude<ConnectionProblem, null>} */
export const problemOf = (error) => error?.problem ?? 'unreachable';

/**
 * Asks the application for the token. If it may belong to somebody else than the last one,
 * another session begins.
 * @param {Core} core
 * @param {boolean} refresh the last one was refused, or has expired
 * @returns {Promise<TokenAnswer>}
 */
export async function askToken(core, refresh) {
  const asked = ++core.asked;
  const token = (await core.getToken?.({ refresh })) || null;
  // A call that was made earlier and answers later may have the previous user's token.
  if (asked > core.answered) {
    core.answered = asked;
    useToken(core, token);
  }
  return { token, session: core.session?.token === token ? core.session : null };
}

/**
 * Gets another token in place of one that was refused or has expired. However many requests it was
 * refused to, the application is asked once: a refresh token is often good for one use. An answer that
 * comes too late is taken for later requests.
 * @param {Core} core
 * @param {string | null | undefined} refused
 * @returns {Promise<TokenAnswer>}
 */
export async function renewToken(core, refused) {
  const { session } = core;
  if (session && session.token !== refused) return { token: session.token, session };
  core.renewal ??= within(core.timing.firstEvent, askToken(core, true)).finally(() => { core.renewal = null; });
  return core.renewal;
}

/**
 * Sends a usage request. After a 401 it asks for another token and tries once more.
 * @param {Core} core
 * @param {string} path
 * @param {AbortSignal} signal
 * @param {{ refresh?: boolean, first?: Session }} [options] with first, its
 *   token is used before the application is asked for one
 * @returns {Promise<{ response: Response, session: Session | null }>} session is that of the token
 */
export async function sendRequest(core, path, signal, { refresh, first } = {}) {
  const { base, credentials, getToken, send } = core;
  /** @param {Promise<TokenAnswer>} answer @returns {Promise<TokenAnswer>} */
  const patiently = (answer) => unlessAborted(answer.catch(() => { throw failure('token'); }), signal);
  let { token, session } = first ? { token: first.token, session: first }
    : await patiently(refresh ? renewToken(core, core.session?.token) : askToken(core, false));
  for (let again = !!getToken; ; again = false) {
    if (getToken && !token) break;
    signal.throwIfAborted();
    const response = await send(new URL(path, base), {
      ...(token && { headers: { Authorization: `Bearer ${token}` } }),
      ...(credentials && { credentials }),
      signal,
      cache: 'no-store',
    });
    if (response.status !== 401) return { response, session };
    response.body?.cancel();
    if (!again) break;
    const refused = token;
    ({ token, session } = await patiently(renewToken(core, refused)));
    if (token === refused) break;
  }
  if (!getToken) signedOut(core, session);
  throw failure('unauthorized');
}

/**
 * Sends a usage request, and reads its answer: JSON, or null.
 * @param {Core} core
 * @param {string} path
 * @param {AbortSignal} signal
 * @param {Session} [first] see sendRequest
 */
async function ask(core, path, signal, first) {
  const limit = startDeadline(signal, core.timing.firstEvent);
  try {
    const { response, session } = await sendRequest(core, path, limit.signal, { first });
    return { status: response.status, session, answer: await response.json().catch(() => null) };
  } catch (error) {
    throw failure(problemOf(error));
  } finally {
    limit.end();
  }
}

/**
 * Reads GET /usage.
 * @param {Core} core
 * @param {AbortSignal} [signal]
 * @param {Session} [first] see sendRequest
 * @returns {Promise<ConnectionProblem>} null: it was answered
 */
export async function read(core, signal = core.closed, first) {
  if (signal.aborted) return 'unreachable';
  try {
    const { answer, session } = await ask(core, 'usage', signal, first);
    if (!isUsage(answer)) return 'unavailable';
    if (!signal.aborted) learn(core, session, answer);
    return null;
  } catch (error) {
    return problemOf(error);
  }
}

/** Where no stream brings the numbers, reads them soon: once, however often it is called. @param {Core} core */
export function readSoon(core) {
  if (core.connection === 'live') return;
  clearTimeout(core.readTimer);
  core.readTimer = setTimeout(read, 50, core);
}

/**
 * Reads GET /usage/history.
 * @param {Core} core
 * @param {number} [days]
 * @returns {Promise<import('../../client.d.ts').UsageHistory>} rejects with a problem
 */
export async function readHistory(core, days) {
  const { answer, status } = await ask(core, `usage/history${days === undefined ? '' : `?days=${days}`}`, core.closed);
  if (answer?.days) return answer;
  throw failure(status === 404 && answer ? 'off' : 'unavailable', answer?.detail);
}
