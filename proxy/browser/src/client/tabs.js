import { identityOf, isRefreshOf, sameUser } from './identity.js';
import { dropKeptNumbers, keptNumbers } from './memory.js';
import { isUsage } from './numbers.js';
import { Session } from './session.js';
import { backoff } from './timing.js';
import { sleep, untilVisible } from './waiting.js';

/**
 * How tabs share one stream. The tabs of one gateway, user and plan, as the gateway has named
 * them in its answer to each tab's own token, talk on a BroadcastChannel and queue for a Web Lock, both with the same name. The tab that holds
 * the lock leads: it streams, or polls, and tells the others. Hidden tabs listen but do
 * not queue, so every request that waits for the lock comes from a visible tab.
 */
export class Tabs {
  /** @type {Session | null} */ session = null;
  // The session before, after the present one has ended.
  /** @type {Session | null} */ #last = null;
  // How often in a row the gateway has not named the user.
  #failures = 0;
  #graceTimer;
  #core;

  /** @param {import('./core.js').Core} core */
  constructor(core) {
    this.#core = core;
  }

  /** Begins a session as soon as getToken answers. */
  async start() {
    const { closed, requests, state, timing } = this.#core;
    for (let failures = 0; !this.session && !closed.aborted; failures++) {
      try {
        await requests.token(false);
      } catch {
        state.setConnection('offline', 'token');
        await sleep(backoff(timing, failures), closed);
      }
    }
  }

  endSession() {
    const session = this.session;
    if (!session) return;
    this.session = null;
    this.#last = session;
    session.post({ type: 'left', id: this.#core.id });
    session.end();
    this.#core.pending.clearOthers();
  }

  /**
   * Begins another session, unless the token is certainly of the same user as the last one.
   * @param {string | null} token
   */
  useToken(token) {
    if (this.#core.closed.aborted) return;
    if (!this.#core.follows) return;
    const before = this.session ?? this.#last;
    const identity = before?.identity ?? null;
    const same = before?.token === token || (identity && isRefreshOf(identity, before?.token ?? null, token));
    if (this.session && same) {
      this.session.token = token;
      return;
    }
    this.endSession();
    if (before && !same) this.#forgetUser();
    this.#begin(token, same ? identity : null);
  }

  #forgetUser() {
    dropKeptNumbers(this.#core);
    this.#core.pending.userChanged();
    this.#core.state.forgetUser();
  }

  /** @param {string | null} token @param {import('./identity.js').Identity | null} identity null: to be asked for */
  #begin(token, identity) {
    const session = this.session = new Session(token);
    if (identity) this.#share(session, identity);
    else this.#identify(session);
  }

  /**
   * Reads the usage until the gateway has named the user.
   * @param {Session} session
   */
  async #identify(session) {
    const { requests, state, timing } = this.#core;
    const kept = keptNumbers(this.#core, session.token);
    if (kept) session.after(timing.impatience, () => state.restore(kept));
    for (let first = /** @type {Session | undefined} */ (session); ; first = undefined) {
      await untilVisible(session.signal);
      if (session.signal.aborted || session.identity) return;
      // The first time without asking for the token again: a token that replaces a refused
      // one would otherwise have to survive getToken({ refresh: false }).
      const problem = await requests.read(session.signal, first);
      if (session.signal.aborted || session.identity) return;
      if (kept && problem !== 'unauthorized') state.restore(kept);
      if (problem) state.setConnection('offline', problem);
      await session.nap(backoff(timing, ++this.#failures), session.signal);
    }
  }

  /** Joins the other tabs of the user. @param {Session} session @param {import('./identity.js').Identity} identity */
  #share(session, identity) {
    const { base, pending, poll } = this.#core;
    this.#failures = 0;
    session.share(identity, base.href, !poll);
    if (session.channel) {
      session.channel.onmessage = (e) => this.#hear(session, e.data);
      session.post({ type: 'hello' });
    }
    if (pending.mine.count) pending.tell();
    session.wake();
    this.#takeTurns(session);
  }

  /**
   * Takes a usage object that the gateway has sent for the token of a session. It says who
   * the user is, and so with whom the session is shared.
   * @param {Session | null} session
   * @param {import('../../client.d.ts').Usage} usage
   * @param {import('./numbers.js').Source} source
   * @param {{ keepRefused?: boolean }} [options]
   */
  learn(session, usage, source, options) {
    if (session !== this.session) return;
    const identity = identityOf(usage);
    if (session && !session.identity) this.#share(session, identity);
    if (session?.identity && !sameUser(session.identity, identity)) {
      // The token is not what identifies the user: a proxy may do so by a cookie.
      this.#forgetUser();
      this.#move(session, identity);
    }
    const accepted = this.#core.state.learn(usage, source, options);
    // A gateway without its store may not know the plan.
    if (accepted && !usage.stale && this.session?.identity && this.session.identity.plan !== identity.plan) {
      this.#move(this.session, identity);
    }
    this.#tellUsage();
  }

  /** Leaves for the tabs of another user or plan. @param {Session} session @param {import('./identity.js').Identity} identity */
  #move(session, identity) {
    if (session.leading) session.post({ type: 'moved' });
    this.endSession();
    this.#begin(session.token, identity);
  }

  /**
   * Leads whenever this tab is visible and no other tab leads.
   * @param {Session} session
   */
  async #takeTurns(session) {
    while (!session.signal.aborted) {
      await untilVisible(session.signal);
      const turn = session.beginTurn();
      const lead = () => this.#lead(session, turn.signal);
      const { locks } = session;
      this.#watchLeader(session);
      try {
        if (!locks) {
          if (session.channel) await sleep(this.#core.timing.leadersAnswer, turn.signal);
          await lead();
        } else if (session.steal) {
          session.steal = false;
          await locks.request(session.name, { steal: true }, lead);
        } else {
          await locks.request(session.name, { signal: turn.signal }, lead);
        }
      } catch (error) {
        // AbortError: the turn was given up, or another tab has stolen the lock. With any
        // other error this page may not use locks.
        if (error?.name !== 'AbortError') session.unshare();
      } finally {
        turn.abort();
        session.leading = false;
      }
    }
  }

  /**
   * Streams, or polls, until the turn ends.
   * @param {Session} session @param {AbortSignal} signal
   */
  async #lead(session, signal) {
    const { follower, state } = this.#core;
    if (signal.aborted) return;
    session.leading = true;
    session.streams = this.#mayStream(session);
    session.cancelTimer('leader');
    await follower.follow(session, signal);
    session.leading = false;
    if (session.signal.aborted || !document.hidden) return;
    state.setConnection('idle');
    session.post(this.report('idle'));
  }

  /**
   * With locks, one tab leads, and streams. Without, as on a page of plain HTTP, each visible one leads.
   * Browsers open six connections to a host that speaks HTTP/1.1, so only the two oldest tabs stream.
   * @param {Session} session
   */
  #mayStream({ channel, leaders, locks }) {
    if (this.#core.poll) return false;
    if (locks || !channel) return true;
    const older = [...leaders].filter(([id, heard]) => id < this.#core.id && Date.now() - heard < 45_000);
    return older.length < 2;
  }

  /** A tab that streams ends it, or one that polls begins, if others have come or gone. @param {Session} session */
  countLeaders(session) {
    if (session.leading && session.streams !== this.#mayStream(session)) session.endTurn();
  }

  visibilityChanged() {
    const { requests, timing } = this.#core;
    clearTimeout(this.#graceTimer);
    if (document.hidden) {
      this.#graceTimer = setTimeout(() => this.#pauseUnlessWatched(), timing.grace);
      return;
    }
    const session = this.session;
    if (!session) return;
    session.wake();
    this.#watchLeader(session);
    requests.token(false).catch(() => {}); // the user may have signed in or out in another tab
  }

  /** A hidden tab gives up its turn, unless it leads for a visible one. */
  async #pauseUnlessWatched() {
    const session = this.session;
    if (!session?.inTurn || !document.hidden) return;
    // Timers of hidden tabs run late: such a tab may stream for others, but not poll.
    if (session.leading && session.locks && this.#core.state.connection === 'live') {
      const { pending = [] } = await navigator.locks.query();
      if (!document.hidden || session.signal.aborted) return;
      if (pending.some((lock) => lock.name === session.name)) {
        clearTimeout(this.#graceTimer);
        this.#graceTimer = setTimeout(() => this.#pauseUnlessWatched(), 60_000);
        return;
      }
    }
    session.endTurn();
    session.post({ type: 'hidden' });
  }

  /**
   * Takes over from a silent leader: its tab may be frozen. Before, it is asked for a sign, since timers
   * of a hidden tab run late, but messages reach it.
   * @param {Session} session @param {number} [asked] so often
   */
  #watchLeader(session, asked = 0) {
    if (!session.locks || session.leading) return;
    session.after(this.#core.timing.leaderSilent * (1 + Math.random() / 5), () => {
      if (session.leading || document.hidden) return;
      if (asked < 2) {
        session.post({ type: 'hello' });
        this.#watchLeader(session, asked + 1);
        return;
      }
      session.steal = true;
      session.endTurn();
    }, 'leader');
  }

  /** Takes a message of another tab. @param {Session} session @param {any} message */
  #hear(session, message) {
    const { pending, requests, state } = this.#core;
    if (session !== this.session || !session.identity || !message) return;
    const usage = isUsage(message.usage) && sameUser(identityOf(message.usage), session.identity) ? message.usage : null;
    // The numbers come first, so that old ones never show as up to date.
    if (usage) state.learn(usage, message.source);
    if (message.lead) {
      if (message.connection === 'idle') session.leaders.delete(message.id);
      else session.leaders.set(message.id, Date.now());
      this.countLeaders(session);
      this.#watchLeader(session);
      if (!session.leading) state.setConnection(message.connection, message.problem);
      return;
    }
    switch (message.type) {
      case 'moved': // the answer to this tab's token may have changed as well
        requests.read(session.signal);
        break;
      case 'hello':
        // From a timer: Chromium passes messages to a frozen page, but runs no timer of it and reads no stream.
        session.after(0, () => session.leading && session.post(this.report(state.connection)), 'sign');
        if (pending.mine.units) pending.tell();
        break;
      case 'pending':
        pending.setOther(message);
        break;
      case 'left':
        session.leaders.delete(message.id);
        this.countLeaders(session);
        pending.removeOther(message.id);
        this.#pauseUnlessWatched();
        break;
      case 'hidden':
        this.#pauseUnlessWatched();
    }
  }

  /** Tells the other tabs the numbers of this one. */
  #tellUsage() {
    const { session } = this;
    const { connection, numbers } = this.#core.state;
    if (session?.leading) session.post(this.report(connection));
    else session?.post({ type: 'usage', usage: numbers.usage, source: numbers.source });
  }

  /** The leader's message to the other tabs. */
  report(connection) {
    const { numbers, problem } = this.#core.state;
    return { lead: true, id: this.#core.id, usage: numbers.usage, source: numbers.source, connection, problem };
  }

  close() {
    if (this.session) dropKeptNumbers(this.#core);
    this.endSession();
    clearTimeout(this.#graceTimer);
  }
}
