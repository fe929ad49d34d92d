import { childOf, startDeadline, untilAborted } from './waiting.js';

/**
 * What lasts as long as the user and the plan stay the same: the channel, the turns, the
 * timers. It begins with a token, alone. Once the gateway has named the token's user, the
 * session is shared with the other tabs of that user.
 * @typedef {ReturnType<typeof newSession> & Later} Session
 * @typedef {object} Later what it does not have at its beginning
 * @property {AbortController | null} [turn] in which this tab leads, or waits to
 * @property {BroadcastChannel | null} [channel] none: nothing is shared
 * @property {LockManager | null} [locks] none: nothing is shared, or the page is not from a secure origin
 * @property {boolean} [leading]
 * @property {boolean} [streams] the present turn, or else polls
 * @property {boolean} [steal] whether the next turn takes the lock from its holder
 * @property {any} [leaderTimer]
 * @property {string} [name] of the channel and the lock
 * @property {import('./identity.js').Identity} [identity] whom the gateway counts for; none: it has not said so yet
 */

/** @param {string | null} token the last one; null: nobody is signed in, or the client has no getToken */
export function newSession(token) {
  const life = new AbortController();
  return {
    token,
    life,
    signal: life.signal,
    naps: /** @type {Set<{ end: () => void }>} */ (new Set()),
    leaders: /** @type {Map<string, number>} the other leading tabs, and when they were last heard of */ (new Map()),
  };
}

/** Sleeps until wake is called, at most. @param {Session} session @param {number} ms @param {AbortSignal} signal */
export async function nap({ naps }, ms, signal) {
  const deadline = startDeadline(signal, ms);
  naps.add(deadline);
  await untilAborted(deadline.signal);
  naps.delete(deadline);
}

/** @param {Session | null} session */
export function wake(session) {
  for (const { end } of session?.naps ?? []) end();
}

/** @param {Session} session */
export function beginTurn(session) {
  session.turn = childOf(session.signal);
  return session.turn.signal;
}

/** @param {Session} session */
export function endTurn(session) {
  session.turn?.abort();
  session.turn = null;
}

/** @param {Session} session */
export function unshare(session) {
  session.channel?.close();
  session.channel = session.locks = null;
}
