import { isUsage } from './numbers.js';
import { Session } from './session.js';
import { backoff } from './timing.js';
import { sleep, untilVisible } from './waiting.js';

/**
 * How tabs share one stream. The tabs of one gateway and one user talk on a
 * BroadcastChannel and queue for a Web Lock, both with the same name. The tab that holds
 * the lock leads: it streams, or polls, and tells the others. Hidden tabs listen but do
 * not queue, so every request that waits for the lock comes from a visible tab.
 */
export class Tabs {
  /** @type {Session | null} */ session = null;
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
    session.post({ type: 'left', id: this.#core.id });
    session.end();
    this.#core.pending.clearOthers();
  }

  /**
   * Begins another session when the token belongs to another user, or to another plan.
   * @param {{ key: string, user: string | null }} identity
   */
  useIdentity({ key, user }) {
    const { base, closed, getToken, pending, requests, state, timing } = this.#core;
    if (closed.aborted || this.session?.key === key) return;
    if (typeof document === 'undefined') return; // on a server nobody watches a stream
    const before = this.session;
    this.endSession();
    // Numbers are kept only if they are known to be the same user's.
    if (before) state.identityChanged(before.user !== null && before.user === user);
    // A tab without a token has to ask for one itself.
    const shared = key !== 'none' || !getToken;
    const session = this.session = new Session(key, user, shared ? `metergate-usage ${base.href} ${key}` : null);
    if (session.channel) {
      session.channel.onmessage = (e) => this.#hear(session, e.data);
      session.post({ type: 'hello' });
      // The leader answers at once, unless it has nothing yet.
      session.after(timing.impatience, () => { if (!state.numbers.usage && !document.hidden) requests.read(session.signal); });
    }
    if (pending.mine) pending.tell();
    this.#takeTurns(session);
  }

  /**
   * Leads whenever this tab is visible and no other tab leads.
   * @param {Session} session
   */
  async #takeTurns(session) {
    const locks = globalThis.navigator?.locks;
    while (!session.signal.aborted) {
      await untilVisible(session.signal);
      const turn = session.beginTurn();
      const lead = () => this.#lead(session, turn.signal);
      this.#watchLeader(session);
      try {
        if (!session.channel || !locks) {
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
    session.cancelTimer('leader');
    await follower.follow(session, signal);
    session.leading = false;
    if (session.signal.aborted || !document.hidden) return;
    state.setConnection('idle');
    session.post(this.report('idle'));
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
    if (session.leading && session.channel && this.#core.state.connection === 'live') {
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
   * Takes over from a silent leader: its tab may be frozen.
   * @param {Session} session
   */
  #watchLeader(session) {
    if (!session.channel || session.leading) return;
    session.after(this.#core.timing.leaderLost * (1 + Math.random() / 3), () => {
      if (session.leading || document.hidden) return;
      session.steal = true;
      session.endTurn();
    }, 'leader');
  }

  /** Takes a message of another tab. @param {Session} session @param {any} message */
  #hear(session, message) {
    const { pending, state } = this.#core;
    if (session !== this.session || !message) return;
    if (message.lead) {
      this.#watchLeader(session);
      if (!session.leading) {
        // The numbers come first, so that old ones never show as up to date.
        if (isUsage(message.usage)) state.learn(message.usage, message.source, { tell: false });
        state.setConnection(message.connection, message.problem);
      }
      return;
    }
    switch (message.type) {
      case 'usage':
        if (isUsage(message.usage)) state.learn(message.usage, message.source, { tell: false });
        break;
      case 'hello':
        if (session.leading) session.post(this.report(state.connection));
        if (pending.mine) pending.tell();
        break;
      case 'pending':
        pending.setOther(message.id, message.count);
        break;
      case 'left':
        pending.removeOther(message.id);
        this.#pauseUnlessWatched();
        break;
      case 'hidden':
        this.#pauseUnlessWatched();
    }
  }

  /** Tells the other tabs the numbers of this one. */
  tellUsage() {
    const { session } = this;
    const { connection, numbers } = this.#core.state;
    if (session?.leading) session.post(this.report(connection));
    else session?.post({ type: 'usage', usage: numbers.usage, source: numbers.source });
  }

  /** The leader's message to the other tabs. */
  report(connection) {
    const { numbers, problem } = this.#core.state;
    return { lead: true, usage: numbers.usage, source: numbers.source, connection, problem };
  }

  close() {
    this.endSession();
    clearTimeout(this.#graceTimer);
  }
}
