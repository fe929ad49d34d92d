import { follow } from './follower.js';
import { isRefreshOf, sameUser } from './identity.js';
import { dropKeptNumbers, keptNumbers } from './memory.js';
import { pendingHere, setPendingElsewhere } from './pending.js';
import { askToken, read } from './requests.js';
import { beginTurn, endTurn, nap, newSession, unshare, wake } from './session.js';
import { forgetNumbers, publish, setConnection, takeNumbers } from './state.js';
import { backoff } from './timing.js';
import { isHidden, sleep, untilVisible, within } from './waiting.js';

/** @typedef {import('./core.js').Core} Core */
/** @typedef {import('./identity.js').Identity} Identity */

// How tabs share one stream. The tabs of one gateway, user and plan, as the gateway has named
// them in its answer to each tab's own token, talk on a BroadcastChannel and queue for a Web Lock,
// both with the same name. The tab that holds the lock leads: it streams, or polls, and tells the
// others. Hidden tabs listen but do not queue, so every request that waits for the lock comes from a
// visible tab.

/** Begins a session as soon as getToken answers. @param {Core} core */
export async function start(core) {
  setConnection(core, 'idle'); // a page that comes back has followed nothing meanwhile
  const failed = () => core.session || core.closed.aborted || setConnection(core, 'offline', 'token');
  for (let failures = 0; !core.session && !core.closed.aborted; failures++) {
    const answer = askToken(core, false);
    within(core.timing.firstEvent, answer).catch(failed);
    await answer.catch(() => sleep(backoff(core, failures), core.closed));
  }
}

/** @param {Core} core @param {boolean} [moved] the gateway has named another user or plan */
export function endSession(core, moved) {
  const { session } = core;
  if (!session) return;
  tell(core, { lead: false, pending: null, paused: true, moved });
  core.session = null;
  core.lastSession = session;
  session.life.abort();
  unshare(session);
  if (!core.otherCalls.size) return;
  core.otherCalls.clear();
  publish(core);
}

/**
 * Begins another session, unless the token is certainly of the same user as the last one.
 * @param {Core} core
 * @param {string | null} token
 */
export function useToken(core, token) {
  if (core.closed.aborted || !core.follows) return;
  const before = core.session ?? core.lastSession;
  const identity = before?.identity;
  const same = before && (before.token === token || (identity && isRefreshOf(identity, before.token, token)));
  if (core.session && same) {
    core.session.token = token;
    return;
  }
  endSession(core);
  if (before && !same) forgetUser(core, before.token);
  begin(core, token, same ? identity : null);
}

/** @param {Core} core @param {any} [known] there was a user */
function forgetUser(core, known = true) {
  if (known) dropKeptNumbers(core);
  core.calls.clear(); // those of the previous one are not shown to the next
  forgetNumbers(core);
}

/** @param {Core} core @param {string | null} token @param {Identity | null} [identity] none: it is to be asked for */
function begin(core, token, identity) {
  const session = core.session = newSession(token);
  if (identity) share(core, session, identity);
  else identify(core, session);
}

/**
 * Reads the usage until the gateway has named the user.
 * @param {Core} core
 * @param {Session} session
 */
async function identify(core, session) {
  const { signal } = session;
  const kept = keptNumbers(core, session.token);
  const showKept = () => {
    if (!kept || signal.aborted || core.usage) return;
    core.usage = { ...kept, stale: true };
    publish(core);
  };
  if (kept) sleep(core.timing.impatience, signal).then(showKept);
  for (let first = /** @type {Session | undefined} */ (session); ; first = undefined) {
    await untilVisible(signal);
    if (signal.aborted || session.identity) return;
    // The first time without asking for the token again: a token that replaces a refused
    // one would otherwise have to survive getToken({ refresh: false }).
    const problem = await read(core, signal, first);
    if (signal.aborted || session.identity) return;
    if (problem !== 'unauthorized') showKept();
    if (problem) setConnection(core, 'offline', problem);
    await nap(session, backoff(core, ++core.failures), signal);
  }
}

/** Joins the other tabs of the user. @param {Core} core @param {Session} session @param {Identity} identity */
function share(core, session, identity) {
  const { user, org, plan } = session.identity = identity;
  core.failures = 0;
  session.name = `metergate-tabs ${core.base.href} ${JSON.stringify([user, org, plan])}`;
  try {
    if (!core.poll) {
      session.channel = new BroadcastChannel(session.name);
      session.channel.onmessage = (e) => hear(core, session, e.data);
      session.locks = navigator.locks;
    }
  } catch { /* a sandboxed frame, or an old browser */ }
  tell(core, { hello: true });
  wake(session);
  takeTurns(core, session);
}

/**
 * Takes a usage object that the gateway has sent for the token of a session. It says who
 * the user is, and so with whom the session is shared.
 * @param {Core} core
 * @param {Session | null} session
 * @param {import('../../client.d.ts').Usage} usage
 */
export function learn(core, session, usage) {
  if (session !== core.session) return;
  if (session && !session.identity) share(core, session, usage);
  if (session?.identity && !sameUser(session.identity, usage)) {
    // The token is not what identifies the user: a proxy may do so by a cookie.
    forgetUser(core);
    move(core, session, usage);
  }
  const accepted = takeNumbers(core, usage);
  // A gateway without its store may not know the plan.
  if (accepted && !usage.stale && core.session?.identity && core.session.identity.plan !== usage.plan) {
    move(core, core.session, usage);
  }
  tell(core);
}

/**
 * Without a token, a refused request alone says that nobody is signed in any more.
 * @param {Core} core @param {Session | null} session of the request
 */
export function signedOut(core, session) {
  if (session !== core.session || !session?.identity) return;
  forgetUser(core);
  move(core, session, null);
  setConnection(core, 'offline', 'unauthorized');
}

/** Leaves for the tabs of another user or plan. @param {Core} core @param {Session} session @param {Identity | null} identity */
function move(core, session, identity) {
  endSession(core, true);
  begin(core, session.token, identity);
}

/**
 * Leads whenever this tab is visible and no other tab leads.
 * @param {Core} core
 * @param {Session} session
 */
async function takeTurns(core, session) {
  while (!session.signal.aborted) {
    await untilVisible(session.signal);
    const { locks, name } = session;
    const signal = beginTurn(session);
    const lead = async () => {
      if (signal.aborted) return;
      session.leading = true;
      session.streams = mayStream(core, session);
      await follow(core, session, signal);
      session.leading = false;
      if (session.signal.aborted || !isHidden()) return;
      setConnection(core, 'idle');
      tell(core, { lead: true });
    };
    watchLeader(core, session);
    try {
      if (locks) {
        const options = session.steal ? { steal: true } : { signal };
        session.steal = false;
        await locks.request(name, options, lead);
      } else {
        // Others that stream have said so by then.
        if (session.channel) await sleep(100, signal);
        await lead();
      }
    } catch (error) {
      // AbortError: the turn was given up, or another tab has stolen the lock. With any
      // other error this page may not use locks.
      if (/** @type {any} */ (error)?.name !== 'AbortError') unshare(session);
    } finally {
      endTurn(session);
      session.leading = false;
    }
  }
}

/**
 * With locks, one tab leads, and streams. Without, as on a page of plain HTTP, each visible one leads.
 * Browsers open six connections to a host that speaks HTTP/1.1, so only the two oldest tabs stream.
 * @param {Core} core
 * @param {Session} session
 */
function mayStream({ id, poll }, { channel, leaders, locks }) {
  const older = [...leaders].filter(([other, heard]) => other < id && Date.now() - heard < 45_000);
  return !poll && Boolean(locks || !channel || older.length < 2);
}

/** A tab that streams ends it, or one that polls begins, if others have come or gone. @param {Core} core @param {Session} session */
export function countLeaders(core, session) {
  if (session.leading && session.streams !== mayStream(core, session)) endTurn(session);
}

/** The user may have signed in or out in another tab. @param {Core} core */
export function checkUser(core) {
  // Only the gateway can tell whose a cookie is.
  if (core.getToken) askToken(core, false).catch(() => {});
  else if (core.session?.identity) read(core);
}

/** @param {Core} core */
export function visibilityChanged(core) {
  const { session } = core;
  if (isHidden()) pauseLater(core, core.timing.grace);
  else if (session) {
    wake(session);
    watchLeader(core, session);
    checkUser(core);
  }
}

/** @param {Core} core @param {number} ms */
function pauseLater(core, ms) {
  clearTimeout(core.graceTimer);
  core.graceTimer = setTimeout(pauseUnlessWatched, ms, core);
}

/** A hidden tab gives up its turn, unless it leads for a visible one. @param {Core} core */
async function pauseUnlessWatched(core) {
  const { session } = core;
  if (!session?.turn || !isHidden()) return;
  // Timers of hidden tabs run late: such a tab may stream for others, but not poll.
  if (session.leading && session.locks && core.connection === 'live') {
    const { pending = [] } = await session.locks.query();
    if (!isHidden() || session.signal.aborted) return;
    if (pending.some((lock) => lock.name === session.name)) {
      pauseLater(core, 60_000);
      return;
    }
  }
  endTurn(session);
  tell(core, { lead: false, paused: true });
}

/**
 * Takes over from a silent leader: its tab may be frozen. Before, it is asked for a sign, since timers
 * of a hidden tab run late, but messages reach it.
 * @param {Core} core
 * @param {Session} session
 * @param {number} [asked] so often
 */
function watchLeader(core, session, asked = 0) {
  clearTimeout(session.leaderTimer);
  if (!session.locks || session.leading) return;
  session.leaderTimer = setTimeout(() => {
    if (session.leading || isHidden()) return;
    if (asked < 2) {
      tell(core, { hello: true });
      watchLeader(core, session, asked + 1);
    } else {
      session.steal = true;
      endTurn(session);
    }
  }, core.timing.leaderSilent * (1 + Math.random() / 5));
}

/**
 * Tells the other tabs what this one knows.
 * @param {Core} core
 * @param {{ lead?: boolean, pending?: null, hello?: boolean, paused?: boolean, moved?: boolean }} [more]
 *   hello: it wants to know what they know; paused: it does not lead any more, nor wait to; moved: the user or
 *   the plan is another
 */
export function tell(core, more) {
  const { connection, id, problem, session, usage } = core;
  session?.channel?.postMessage({ id, lead: session.leading, usage, connection, problem, pending: pendingHere(core), ...more });
}

/** Takes a message of another tab, see tell. @param {Core} core @param {Session} session @param {any} message */
function hear(core, session, { id, lead, usage, connection, problem, pending, hello, paused, moved }) {
  if (session !== core.session || !session.identity) return;
  // The numbers come first, so that old ones never show as up to date, and calls are not missed. Those of
  // a tab that has just come may have been kept over a reload: their mark as old ones is not the gateway's.
  if (usage && !hello && sameUser(usage, session.identity)) takeNumbers(core, usage);
  setPendingElsewhere(core, id, pending);
  if (lead && connection !== 'idle') session.leaders.set(id, Date.now());
  else session.leaders.delete(id);
  countLeaders(core, session);
  if (lead) {
    watchLeader(core, session);
    if (!session.leading) setConnection(core, connection, problem);
  }
  // From a timer: Chromium passes messages to a frozen page, but runs no timer of it and reads no stream.
  if (hello && (session.leading || core.calls.size)) setTimeout(tell, 0, core);
  if (paused) pauseUnlessWatched(core);
  if (moved) checkUser(core);
}
