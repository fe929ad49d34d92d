// The usage of one user of a Metergate gateway, live, in the browser.
//
//   import { createUsageClient } from 'https://gateway.example.com/usage/client.js';
//   const usage = createUsageClient({ getToken: () => session.token });
//   usage.subscribe((state) => render(state));   // { used: 42, limit: 100, pending: 0, ... }
//   await usage.fetch('https://gateway.example.com/api/analyze', { method: 'POST', body });
//
// The client does no arithmetic of its own: the numbers are what the gateway said
// last. It has one stream open for all tabs of a browser, and polls where a stream
// cannot be had. What goes wrong here shows in `connection` and `stale`; it never
// touches the calls of the application. client.d.ts has the types.
//
// How tabs share: those of one gateway and one user talk on a BroadcastChannel and
// queue for a Web Lock, both of one name. Who holds the lock leads: it streams, or
// polls, and tells the others. Hidden tabs listen but do not queue, so that the
// requests that wait for the lock are the visible tabs.

/** Milliseconds. */
const TIMING = {
  poll: 10_000, // between two reads where there is no stream
  firstEvent: 10_000, // a stream without one by then is held up on its way
  impatience: 2_000, // for the first number; then it is read besides
  dead: 40_000, // a stream without a byte for so long; the gateway sends one every 15 s
  backoff: 1_000, // before the first retry, at most; doubles,
  backoffMax: 30_000, // up to this
  settled: 10_000, // a stream that lived so long was a good one
  floor: 2_000, // how long the stream may take to confirm X-Usage
  grace: 5_000, // a hidden tab that is seen again by then did not pause
  leaderLost: 45_000, // silence of the leading tab after which another takes over
};

const QUOTA_EXCEEDED = 'http-problem-types#quota-exceeded';

/** Claims that differ between two tokens that mean the same. */
const VOLATILE_CLAIMS = new Set([
  'exp', 'iat', 'nbf', 'jti', 'auth_time', 'nonce', 'sid', 'at_hash', 'c_hash',
  'session_state', 'uti', 'rh', 'aio',
]);

/**
 * @typedef {import('./client.d.ts').Usage} Usage
 * @typedef {import('./client.d.ts').UsageState} UsageState
 * @typedef {import('./client.d.ts').UsageClientOptions} UsageClientOptions
 * @typedef {import('./client.d.ts').Connection} Connection
 * @typedef {import('./client.d.ts').ConnectionProblem} ConnectionProblem
 * @typedef {import('./client.d.ts').Refusal} Refusal
 */

/**
 * @param {UsageClientOptions & { timing?: Partial<typeof TIMING> }} [options]
 * @returns {UsageClient}
 */
export function createUsageClient(options) {
  return new UsageClient(options);
}

export class UsageClient extends EventTarget {
  /** @type {URL} ends with a slash */ #base;
  /** @type {UsageClientOptions['getToken']} */ #getToken;
  /** @type {typeof fetch} */ #send;
  /** @type {typeof TIMING} */ #timing;

  // What is known.
  /** @type {Usage | null} */ #usage = null;
  /** @type {'stream' | 'read' | null} */ #source = null; // of #usage
  #heldBackSince = 0; // when states began to come that are older than #usage
  /** @type {{ used: number, limit: number | null, start: string, timer: any } | null} */ #floor = null;
  /** @type {Refusal | null} */ #refused = null;
  /** @type {Connection} */ #connection = 'idle';
  /** @type {ConnectionProblem} */ #problem = null;
  /** @type {UsageState | null} */ #current = null;
  /** @type {Set<(state: UsageState | null) => void>} */ #subscribers = new Set();

  // Running calls: of this tab, and of others by their ids.
  #mine = 0;
  /** @type {Map<string, { count: number, at: number }>} */ #others = new Map();
  #pendingTimer;
  /** Calls that succeeded without X-Usage: they are not metered. */
  #unmetered = new Set();
  #sawUsageField = false;

  #id = Math.random().toString(36).slice(2) + Date.now().toString(36);
  #life = new AbortController(); // ends with close()
  /** @type {Session | null} */ #session = null;
  #refreshTimer;
  #graceTimer;

  /** @param {UsageClientOptions & { timing?: Partial<typeof TIMING> }} [options] timing is for tests */
  constructor({ baseUrl, getToken, fetch = globalThis.fetch, timing } = {}) {
    super();
    // This file is at /usage/client.js of the gateway.
    this.#base = new URL(baseUrl ?? new URL('..', import.meta.url), globalThis.document?.baseURI);
    if (!this.#base.pathname.endsWith('/')) this.#base.pathname += '/';
    this.#base.search = this.#base.hash = '';
    this.#getToken = getToken;
    this.#send = fetch.bind(globalThis); // before anybody puts this client's in its place
    this.#timing = { ...TIMING, ...timing };
    if (typeof document === 'undefined') return; // rendered on a server
    const { signal } = this.#life;
    document.addEventListener('visibilitychange', () => this.#visibilityChanged(), { signal });
    window.addEventListener('online', () => this.#session?.wake(), { signal });
    // A page that holds a lock or a connection cannot be kept for the way back.
    window.addEventListener('pagehide', () => this.#endSession(), { signal });
    window.addEventListener('pageshow', (e) => e.persisted && this.#start(), { signal });
    queueMicrotask(() => this.#start());
  }

  /** The last known state; null before the first. Another object after each change. */
  get current() { return this.#current; }

  /** How states arrive at the moment. */
  get connection() { return this.#connection; }

  /** Why the connection is 'offline'. */
  get problem() { return this.#problem; }

  /** The gateway's address, with a slash at the end. */
  get baseUrl() { return this.#base.href; }

  /**
   * Calls fn with the current state, if there is one, and after every change; with
   * null when the user has changed and nothing is known of the new one.
   * @param {(state: UsageState | null) => void} fn
   * @returns {() => void} ends it
   */
  subscribe = (fn) => {
    const subscriber = (state) => fn(state); // the same fn may subscribe twice
    this.#subscribers.add(subscriber);
    if (this.#current) guarded(() => subscriber(this.#current));
    return () => { this.#subscribers.delete(subscriber); };
  };

  /**
   * Asks the gateway now. Never rejects: see `stale`.
   * @returns {Promise<UsageState | null>}
   */
  refresh = async () => {
    if (!this.#life.signal.aborted) await this.#read(this.#life.signal);
    return this.#current;
  };

  /** Ends everything: stream, timers, lock. `fetch` still works, but no longer counts as pending. */
  close = () => {
    if (this.#life.signal.aborted) return;
    this.#endSession();
    this.#life.abort();
    clearTimeout(this.#refreshTimer);
    clearTimeout(this.#graceTimer);
    clearInterval(this.#pendingTimer);
    clearTimeout(this.#floor?.timer);
    this.#subscribers.clear();
  };

  /**
   * A drop-in for window.fetch. Calls to the gateway get the Authorization field,
   * unless they have one, and show as pending until their response begins.
   * @param {RequestInfo | URL} input
   * @param {RequestInit} [init]
   * @returns {Promise<Response>}
   */
  fetch = async (input, init) => {
    const request = typeof input === 'object' && input && 'headers' in input ? input : null;
    let url;
    try {
      url = new URL(request ? request.url : String(input), globalThis.document?.baseURI);
    } catch { /* fetch says it better */ }
    if (!url || !this.#covers(url)) return this.#send(input, init);

    const call = `${(init?.method ?? request?.method ?? 'GET').toUpperCase()} ${url.pathname}`;
    const counts = !this.#isOwn(url) && !this.#unmetered.has(call) && !this.#life.signal.aborted;
    if (counts) this.#addPending(1);
    let settled = false;
    let session = this.#session;
    try {
      const headers = new Headers(init?.headers ?? request?.headers);
      if (!headers.has('Authorization')) {
        const signal = init?.signal ?? request?.signal;
        const token = await unlessAborted(this.#token(false), signal);
        if (token) headers.set('Authorization', `Bearer ${token}`);
        session = this.#session;
      }
      const response = await this.#send(input, { ...init, headers });
      // The count is made before the status line is sent: now it has moved.
      settled = true;
      guarded(() => this.#answered(call, counts, response, session));
      return response;
    } finally {
      if (counts && !settled) this.#addPending(-1);
    }
  };

  // What is under baseUrl, and what of it is never metered.

  /** @param {URL} url */
  #covers(url) {
    return url.origin === this.#base.origin && `${url.pathname}/`.startsWith(this.#base.pathname);
  }

  /** @param {URL} url */
  #isOwn(url) {
    const path = url.pathname.slice(this.#base.pathname.length);
    return path === 'usage' || path.startsWith('usage/');
  }

  /** @param {string} call @param {boolean} counts @param {Response} response @param {Session | null} session */
  #answered(call, counts, response, session) {
    // Not what somewhere else says, nor what was said to another user.
    const ours = (!response.redirected || this.#covers(new URL(response.url))) && session === this.#session;
    const field = ours ? response.headers.get('X-Usage') : null;
    const [, used, limit] = /^(\d+)\/(\d+|unlimited)$/.exec(field ?? '') ?? [];
    if (used !== undefined) {
      this.#sawUsageField = true;
      this.#unmetered.delete(call);
      if (response.ok) this.#raise(Number(used), limit === 'unlimited' ? null : Number(limit));
    } else if (response.ok && this.#sawUsageField && this.#unmetered.size < 100) {
      this.#unmetered.add(call);
    }
    if (counts) this.#addPending(-1); // and shows the raised number
    if (response.ok && this.#connection !== 'live') this.#refreshSoon(50);
    if (ours && response.status === 429 && response.headers.get('Content-Type')?.startsWith('application/problem+json')) {
      this.#refusedBy(response.clone(), session).catch(() => {}); // a body that broke off
    }
  }

  /** @param {Response} response a copy @param {Session | null} session */
  async #refusedBy(response, session) {
    const problem = await response.json();
    if (!String(problem.type).endsWith(QUOTA_EXCEEDED) || session !== this.#session) return;
    this.#refused = {
      endpoint: problem.endpoint ?? null,
      violated: problem['violated-policies'] ?? [],
      detail: problem.detail ?? '',
      upgrade_url: problem.upgrade_url ?? null,
      retry_after: Number(response.headers.get('Retry-After')) || null,
    };
    if (isUsage(problem.usage)) this.#learned(problem.usage, 'read', { keepRefused: true });
    else this.#emit();
    if (!this.#current) return;
    this.#dispatch('usage-exceeded', { ...this.#current, ...this.#refused });
  }

  // The state.

  /**
   * Takes what the gateway said, if it is not older than what is known.
   * @param {Usage} usage
   * @param {'stream' | 'read'} source
   */
  #learned(usage, source, { tell = true, keepRefused = false } = {}) {
    const known = this.#usage;
    if (known && known.user === usage.user && this.#isOlder(usage, source)) {
      // The numbers are not news, but that the store is lost is.
      if (usage.stale && !known.stale) this.#usage = { ...known, stale: true };
    } else {
      this.#usage = usage;
      this.#source = source;
      this.#heldBackSince = 0;
      const floor = this.#floor;
      if (floor && (usage.used >= floor.used || usage.period.start !== floor.start)) this.#dropFloor();
      if (!keepRefused && this.#refused && admits(usage, this.#refused.endpoint)) this.#refused = null;
    }
    if (tell) this.#tellUsage();
    this.#emit();
  }

  /** @param {Usage} usage @param {'stream' | 'read'} source */
  #isOlder(usage, source) {
    const known = /** @type {Usage} */ (this.#usage);
    const age = Date.parse(known.as_of) - Date.parse(usage.as_of);
    // Two answers of one millisecond from different places: which is later, nobody knows.
    const older = age > 0 || (age === 0 && source !== this.#source && usage.used < known.used);
    // A gateway without its store says what it saw itself. Another may have seen more.
    if (usage.stale) return older || (usage.used < known.used && usage.period.start === known.period.start);
    if (!older) return false;
    // A store whose clock was set back would hold the number still for as long.
    this.#heldBackSince ||= Date.now();
    return Date.now() - this.#heldBackSince < 30_000;
  }

  /**
   * X-Usage says how far the count is at least. It has no time, so it only ever
   * raises the number, and what the stream says next, or a read, has to confirm it.
   * @param {number} used @param {number | null} limit
   */
  #raise(used, limit) {
    const usage = this.#usage;
    if (!usage || used <= usage.used || used <= (this.#floor?.used ?? 0)) return;
    clearTimeout(this.#floor?.timer);
    const floor = this.#floor = { used, limit, start: usage.period.start, timer: undefined };
    floor.timer = setTimeout(async () => {
      await this.#read(this.#life.signal);
      if (this.#floor === floor) {
        this.#floor = null;
        this.#emit();
      }
    }, this.#timing.floor);
  }

  #dropFloor() {
    clearTimeout(this.#floor?.timer);
    this.#floor = null;
  }

  /** Makes the state that everybody sees, and shows it. */
  #emit() {
    if (this.#life.signal.aborted) return;
    const before = this.#current;
    this.#current = this.#usage && {
      ...this.#usage,
      ...this.#raised(this.#usage),
      pending: this.#pending(),
      stale: this.#usage.stale || this.#connection === 'offline',
      connection: this.#connection,
      refused: this.#refused,
    };
    const state = this.#current;
    if (!state && !before) return;
    for (const fn of [...this.#subscribers]) guarded(() => fn(state));
    if (!state) return;
    this.#dispatch('usage', state);
    if (state.status === 'warning' && before?.status === 'ok') this.#dispatch('usage-warning', state);
  }

  /** @param {Usage} usage */
  #raised(usage) {
    const floor = this.#floor;
    if (!floor) return {};
    const { used, limit } = floor;
    if (limit === null) return { used };
    const blocked = used >= limit;
    return {
      used,
      limit,
      remaining: Math.max(0, limit - used),
      percent: limit ? Math.floor((used * 100) / limit) : 100,
      status: blocked ? 'blocked' : usage.status,
      // At its limit and allowed all the same: the plan observes, and blocks nobody.
      allowed: usage.allowed && (!blocked || usage.status === 'blocked'),
    };
  }

  /** @param {string} type @param {any} detail */
  #dispatch(type, detail) {
    guarded(() => this.dispatchEvent(new CustomEvent(type, { detail })));
  }

  /** @param {Connection} connection @param {ConnectionProblem} [problem] */
  #setConnection(connection, problem = null) {
    if (this.#connection === connection && this.#problem === problem) return;
    this.#connection = connection;
    this.#problem = problem;
    this.#dispatch('connection', { connection, problem });
    this.#emit();
  }

  // Running calls.

  #pending() {
    let sum = this.#mine;
    for (const { count } of this.#others.values()) sum += count;
    return sum;
  }

  /** @param {number} n */
  #addPending(n) {
    this.#mine += n;
    this.#tellPending();
    this.#emit();
  }

  #tellPending() {
    this.#session?.post({ type: 'pending', id: this.#id, count: this.#mine });
    this.#watchPending();
  }

  /** While calls run, says so again and again, and forgets tabs that died with theirs. */
  #watchPending() {
    clearInterval(this.#pendingTimer);
    if ((!this.#mine && !this.#others.size) || this.#life.signal.aborted) return;
    this.#pendingTimer = setInterval(() => {
      for (const [id, { at }] of this.#others) {
        if (Date.now() - at > 90_000) this.#others.delete(id); // timers of hidden tabs run once a minute
      }
      if (this.#mine) this.#tellPending();
      else this.#watchPending();
      this.#emit();
    }, 20_000);
  }

  // Tokens and requests.

  /**
   * @param {boolean} refresh the last one was refused, or has expired
   * @returns {Promise<string | null>}
   */
  async #token(refresh) {
    const token = this.#getToken ? (await this.#getToken({ refresh })) || null : null;
    this.#use(identify(token));
    return token;
  }

  /**
   * Begins another session when the token is that of another user, or of another plan.
   * @param {{ key: string, user: string | null }} identity
   */
  #use({ key, user }) {
    if (this.#life.signal.aborted || this.#session?.key === key) return;
    if (typeof document === 'undefined') return; // a server has nobody to show a stream to
    const before = this.#session;
    this.#endSession();
    if (before) {
      this.#refused = null;
      this.#dropFloor();
      // What is not known to be the same user's is not shown to the next.
      if (before.user === null || before.user !== user) this.#usage = null;
      this.#emit();
    }
    // A tab without a token has to ask for one itself.
    const shared = key !== 'none' || !this.#getToken;
    const session = this.#session = new Session(key, user, shared ? `metergate-usage ${this.#base.href} ${key}` : null);
    if (session.channel) {
      session.channel.onmessage = (e) => this.#heard(session, e.data);
      session.post({ type: 'hello' });
      // The leader answers at once, unless it has nothing yet.
      session.after(this.#timing.impatience, () => { if (!this.#usage && !document.hidden) this.#read(session.signal); });
    }
    if (this.#mine) this.#tellPending();
    this.#takeTurns(session);
  }

  /**
   * Sends a usage request. A refused token is asked for once more.
   * @param {string} path
   * @param {AbortSignal} signal
   */
  async #request(path, signal, { accept = 'application/json', refresh = false, onToken = () => {} } = {}) {
    const url = new URL(path, this.#base);
    /** @param {string | null} token */
    const send = (token) => {
      signal.throwIfAborted();
      onToken();
      const headers = { Accept: accept, ...(token && { Authorization: `Bearer ${token}` }) };
      return this.#send(url, { headers, signal, cache: 'no-store' });
    };
    /** @param {boolean} again */
    const ask = (again) => unlessAborted(this.#token(again).catch((cause) => {
      throw new TokenError('getToken', { cause });
    }), signal);
    const token = await ask(refresh);
    if (this.#getToken && !token) throw new Unauthorized();
    let response = await send(token);
    if (response.status === 401 && this.#getToken) {
      response.body?.cancel();
      const another = await ask(true);
      if (!another || another === token) throw new Unauthorized();
      response = await send(another);
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
  async #read(signal) {
    const limit = deadline(signal, this.#timing.firstEvent);
    try {
      let session;
      const response = await this.#request('usage', limit.signal, { onToken: () => { session = this.#session; } });
      if (!response.ok) {
        response.body?.cancel();
        return 'unavailable';
      }
      const usage = await response.json();
      if (!isUsage(usage)) return 'unavailable';
      if (!signal.aborted && session === this.#session) this.#learned(usage, 'read');
      return null;
    } catch (error) {
      return problemOf(error);
    } finally {
      limit.end();
    }
  }

  /** @param {number} ms */
  #refreshSoon(ms) {
    clearTimeout(this.#refreshTimer);
    this.#refreshTimer = setTimeout(() => this.refresh(), ms);
  }

  // Sessions, tabs and turns.

  /** Begins a session as soon as there is an answer from getToken. */
  async #start() {
    const { signal } = this.#life;
    for (let failures = 0; !this.#session && !signal.aborted; failures++) {
      try {
        await this.#token(false);
      } catch {
        this.#setConnection('offline', 'token');
        await sleep(this.#backoff(failures), signal);
      }
    }
  }

  #endSession() {
    const session = this.#session;
    if (!session) return;
    this.#session = null;
    session.post({ type: 'left', id: this.#id });
    session.end();
    if (this.#others.size) {
      this.#others.clear();
      this.#emit();
    }
  }

  /**
   * Leads whenever this tab is seen and no other leads.
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
        // Aborted: the turn was given up, or another tab has taken the lock. Else
        // this page may not have locks.
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
    if (signal.aborted) return;
    session.leading = true;
    session.forget('leader');
    await this.#keepStreaming(session, signal);
    session.leading = false;
    if (session.signal.aborted || !document.hidden) return;
    this.#setConnection('idle');
    session.post(this.#report('idle'));
  }

  #visibilityChanged() {
    clearTimeout(this.#graceTimer);
    if (document.hidden) {
      this.#graceTimer = setTimeout(() => this.#pauseUnlessWatched(), this.#timing.grace);
      return;
    }
    const session = this.#session;
    if (!session) return;
    session.wake();
    this.#watchLeader(session);
    this.#token(false).catch(() => {}); // somebody may have signed in or out in another tab
  }

  /** A hidden tab gives its turn up, unless it leads for one that is seen. */
  async #pauseUnlessWatched() {
    const session = this.#session;
    if (!session?.inTurn || !document.hidden) return;
    // The timers of hidden tabs run late: they stream for others but do not poll.
    if (session.leading && session.channel && this.#connection === 'live') {
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
   * Takes over from a leader that is silent: its tab may be frozen.
   * @param {Session} session
   */
  #watchLeader(session) {
    if (!session.channel || session.leading) return;
    session.after(this.#timing.leaderLost * (1 + Math.random() / 3), () => {
      if (session.leading || document.hidden) return;
      session.steal = true;
      session.endTurn();
    }, 'leader');
  }

  /** @param {Session} session @param {any} message */
  #heard(session, message) {
    if (session !== this.#session || !message) return;
    if (message.lead) {
      this.#watchLeader(session);
      if (!session.leading) {
        // The numbers first: what is no longer stale should not show old ones.
        if (isUsage(message.usage)) this.#learned(message.usage, message.source, { tell: false });
        this.#setConnection(message.connection, message.problem);
      }
      return;
    }
    switch (message.type) {
      case 'usage':
        if (isUsage(message.usage)) this.#learned(message.usage, message.source, { tell: false });
        break;
      case 'hello':
        if (session.leading) session.post(this.#report(this.#connection));
        if (this.#mine) this.#tellPending();
        break;
      case 'pending':
        if (message.count > 0) this.#others.set(message.id, { count: message.count, at: Date.now() });
        else this.#others.delete(message.id);
        this.#watchPending();
        this.#emit();
        break;
      case 'left':
        if (this.#others.delete(message.id)) this.#emit();
        this.#pauseUnlessWatched();
        break;
      case 'hidden':
        this.#pauseUnlessWatched();
    }
  }

  #tellUsage() {
    const session = this.#session;
    if (session?.leading) session.post(this.#report(this.#connection));
    else session?.post({ type: 'usage', usage: this.#usage, source: this.#source });
  }

  /** What the leader says. */
  #report(connection) {
    return { lead: true, usage: this.#usage, source: this.#source, connection, problem: this.#problem };
  }

  // Streaming and polling.

  /** @param {Session} session @param {AbortSignal} signal */
  async #keepStreaming(session, signal) {
    const poller = new Poller((pollSignal) => this.#poll(session, pollSignal), signal, this.#timing.poll);
    let failures = 0;
    let refresh = false;
    while (!signal.aborted) {
      const end = await this.#stream(session, signal, poller, refresh);
      if (signal.aborted) return;
      refresh = end.reason === 'token_expired';
      if (refresh && end.good) {
        failures = 0;
        continue;
      }
      failures = end.good ? 0 : failures + 1;
      if (end.problem === 'unauthorized' || end.problem === 'token') {
        poller.stop(); // it would be refused the same
        this.#setConnection('offline', end.problem);
        session.post(this.#report('offline'));
      } else if (!end.started || failures > 1) {
        poller.start();
      }
      // An ended stream is no reason to say that anything is out of date, a failed retry is.
      await session.nap(Math.max(end.retryAfter, this.#backoff(failures)), signal);
    }
  }

  /**
   * Follows one stream to its end.
   * @param {Session} session @param {AbortSignal} signal @param {Poller} poller @param {boolean} refresh
   */
  async #stream(session, signal, poller, refresh) {
    const end = { started: false, good: false, reason: '', problem: /** @type {ConnectionProblem} */ (null), retryAfter: 0 };
    const limit = deadline(signal, this.#timing.firstEvent);
    const impatience = setTimeout(() => poller.start(), this.#timing.impatience);
    let began = 0;
    let told = false;
    try {
      const response = await this.#request('usage/stream', limit.signal, { accept: 'text/event-stream', refresh });
      if (!response.ok || !response.body || !response.headers.get('Content-Type')?.startsWith('text/event-stream')) {
        end.retryAfter = Math.min(600, Number(response.headers.get('Retry-After')) || 0) * 1000;
        end.problem = 'unavailable';
        return end;
      }
      const parser = new EventStreamParser((type, data) => {
        if (type === 'usage') {
          const usage = JSON.parse(data);
          if (!isUsage(usage)) return;
          told = true;
          if (!end.started) {
            end.started = true;
            began = Date.now();
            clearTimeout(impatience);
            poller.stop();
            this.#connection = 'live'; // shown with the numbers
            this.#problem = null;
            this.#dispatch('connection', { connection: 'live', problem: null });
          }
          this.#learned(usage, 'stream');
        } else if (type === 'end') {
          end.reason = JSON.parse(data).reason;
        }
      });
      const reader = response.body.getReader();
      while (!end.reason) {
        const { done, value } = await reader.read();
        if (done) break;
        told = false;
        parser.push(value);
        if (end.started) limit.extend(this.#timing.dead);
        if (!told) session.post(this.#report(this.#connection)); // this tab is alive
      }
    } catch (error) {
      end.problem = problemOf(error);
    } finally {
      clearTimeout(impatience);
      limit.end();
      const lived = began ? Date.now() - began : 0;
      end.good = lived >= this.#timing.settled || (end.reason !== '' && lived >= 1_000);
    }
    return end;
  }

  /** @param {Session} session @param {AbortSignal} signal */
  async #poll(session, signal) {
    const problem = await this.#read(signal);
    if (signal.aborted) return;
    const back = !problem && this.#connection === 'offline';
    this.#setConnection(problem ? 'offline' : 'polling', problem);
    session.post(this.#report(this.#connection));
    if (back) session.wake(); // the gateway answers again: so may a stream
  }

  /** Full jitter. @param {number} failures */
  #backoff(failures) {
    return Math.random() * Math.min(this.#timing.backoffMax, this.#timing.backoff * 2 ** failures);
  }
}

/** What lasts as long as the user is the same: the channel, the turns, the timers. */
class Session {
  #controller = new AbortController();
  /** @type {AbortController | null} */ #turn = null;
  /** @type {Map<any, any>} */ #timers = new Map();
  #wakers = new Set();
  /** @type {BroadcastChannel | null} null: nothing is shared */ channel = null;
  leading = false;
  steal = false; // the next turn takes the lock from its holder

  /**
   * @param {string} key what the answers depend on
   * @param {string | null} user null: not known
   * @param {string | null} name of the channel and the lock; null: not shared
   */
  constructor(key, user, name) {
    this.key = key;
    this.user = user;
    this.name = name;
    if (name && globalThis.navigator?.locks && typeof BroadcastChannel === 'function') {
      try {
        this.channel = new BroadcastChannel(name);
      } catch { /* a sandboxed frame */ }
    }
  }

  get signal() { return this.#controller.signal; }

  /** @param {any} message */
  post(message) {
    try {
      this.channel?.postMessage(message);
    } catch { /* closed */ }
  }

  /** Calls fn later, unless the session has ended; a second timer of a name replaces the first. */
  after(ms, fn, name = fn) {
    this.forget(name);
    if (this.signal.aborted) return;
    this.#timers.set(name, setTimeout(() => {
      this.#timers.delete(name);
      fn();
    }, ms));
  }

  forget(name) {
    clearTimeout(this.#timers.get(name));
    this.#timers.delete(name);
  }

  /** Sleeps until wake. @param {number} ms @param {AbortSignal} signal */
  async nap(ms, signal) {
    const waker = new AbortController();
    const off = relay(signal, waker);
    this.#wakers.add(waker);
    await sleep(ms, waker.signal);
    this.#wakers.delete(waker);
    off();
  }

  wake() {
    for (const waker of this.#wakers) waker.abort();
  }

  beginTurn() {
    this.#turn = new AbortController();
    if (this.signal.aborted) this.#turn.abort();
    return this.#turn;
  }

  /** Leads, or waits to. */
  get inTurn() { return this.#turn !== null && !this.#turn.signal.aborted; }

  endTurn() { this.#turn?.abort(); }

  unshare() {
    this.channel?.close();
    this.channel = null;
  }

  end() {
    this.#controller.abort();
    this.endTurn();
    for (const timer of this.#timers.values()) clearTimeout(timer);
    this.unshare();
  }
}

/** Repeats a job while it is started. */
class Poller {
  /** @type {AbortController | null} */ #running = null;

  /** @param {(signal: AbortSignal) => Promise<void>} job @param {AbortSignal} signal @param {number} ms */
  constructor(job, signal, ms) {
    this.job = job;
    this.signal = signal;
    this.ms = ms;
    signal.addEventListener('abort', () => this.stop(), { once: true });
  }

  async start() {
    if (this.#running || this.signal.aborted) return;
    const running = this.#running = new AbortController();
    while (!running.signal.aborted) {
      await this.job(running.signal);
      await sleep(this.ms * (0.9 + Math.random() / 5), running.signal); // tabs and users drift apart
    }
  }

  stop() {
    this.#running?.abort();
    this.#running = null;
  }
}

/**
 * Parses text/event-stream as the HTML standard has it
 * (https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream).
 * `id` and `retry` are of no use here.
 */
export class EventStreamParser {
  #decoder = new TextDecoder(); // keeps half a character for the next chunk, drops a BOM
  #line = ''; // its end has not come yet
  #afterCR = false; // a line feed next belongs to the line that has ended
  #type = '';
  #data = '';

  /** @param {(type: string, data: string) => void} onEvent */
  constructor(onEvent) {
    this.onEvent = onEvent;
  }

  /** @param {Uint8Array} bytes */
  push(bytes) {
    let text = this.#decoder.decode(bytes, { stream: true });
    if (text === '') return;
    if (this.#afterCR && text[0] === '\n') text = text.slice(1);
    this.#afterCR = text === '' ? false : text.endsWith('\r');
    const lines = (this.#line + text).split(/\r\n|\n|\r/);
    this.#line = /** @type {string} */ (lines.pop());
    for (const line of lines) this.#take(line);
    if (this.#line.length + this.#data.length > 1 << 20) throw new Error('an event without an end');
  }

  /** @param {string} line */
  #take(line) {
    if (line === '') {
      const [type, data] = [this.#type || 'message', this.#data];
      this.#type = this.#data = '';
      if (data !== '') this.onEvent(type, data.slice(0, -1));
      return;
    }
    const colon = line.indexOf(':');
    if (colon === 0) return; // a comment
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(line[colon + 1] === ' ' ? colon + 2 : colon + 1);
    if (field === 'event') this.#type = value;
    if (field === 'data') this.#data += `${value}\n`;
  }
}

class Unauthorized extends Error {}

/** @param {any} error @returns {ConnectionProblem} */
function problemOf(error) {
  if (error instanceof Unauthorized) return 'unauthorized';
  return error instanceof TokenError ? 'token' : 'unreachable';
}

/** getToken threw. */
class TokenError extends Error {}

/** @param {any} value @returns {value is Usage} */
function isUsage(value) {
  return typeof value?.used === 'number' && typeof value.as_of === 'string' && typeof value.period === 'object';
}

/** @param {Usage} usage @param {string | null} endpoint */
function admits(usage, endpoint) {
  return usage.allowed && (usage.endpoints?.[endpoint ?? '']?.allowed ?? true);
}

/**
 * Says who a token speaks for, without trusting it. Tokens of one key get the same
 * answers: other claims than the subject may choose the plan, so all of them count
 * but those that say when the token was made.
 * @param {string | null} token
 */
function identify(token) {
  if (!token) return { key: 'none', user: '' };
  try {
    const payload = token.split('.')[1].replaceAll('-', '+').replaceAll('_', '/');
    const bytes = Uint8Array.from(atob(payload), (c) => c.charCodeAt(0));
    const claims = JSON.parse(new TextDecoder().decode(bytes));
    const lasting = Object.keys(claims).filter((name) => !VOLATILE_CLAIMS.has(name)).sort();
    const key = `jwt-${hash(JSON.stringify(lasting.map((name) => [name, claims[name]])))}`;
    return { key, user: typeof claims.sub === 'string' ? claims.sub : null };
  } catch {
    return { key: `opaque-${hash(token)}`, user: null };
  }
}

/** A short name for a text (FNV-1a, twice). @param {string} text */
function hash(text) {
  let [a, b] = [0x811c9dc5, 0x1000193];
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    a = Math.imul(a ^ c, 0x01000193);
    b = Math.imul(b ^ c ^ (a >>> 13), 0x5bd1e995);
  }
  return (a >>> 0).toString(36) + (b >>> 0).toString(36);
}

/** Runs code of the application: what it throws is its own, and goes to the console. */
function guarded(fn) {
  try {
    fn();
  } catch (error) {
    if (typeof reportError === 'function') reportError(error);
    else console.error(error);
  }
}

/** Passes an abort on. @param {AbortSignal} signal @param {AbortController} controller */
function relay(signal, controller) {
  const abort = () => controller.abort(signal.reason);
  if (signal.aborted) abort();
  signal.addEventListener('abort', abort);
  return () => signal.removeEventListener('abort', abort);
}

/** A signal that also aborts by itself. @param {AbortSignal} signal @param {number} ms */
function deadline(signal, ms) {
  const controller = new AbortController();
  const off = relay(signal, controller);
  let timer = setTimeout(() => controller.abort(), ms);
  return {
    signal: controller.signal,
    /** @param {number} more */
    extend(more) {
      clearTimeout(timer);
      timer = setTimeout(() => controller.abort(), more);
    },
    /** Also closes what is still being received. */
    end() {
      clearTimeout(timer);
      off();
      controller.abort();
    },
  };
}

/** @template T @param {Promise<T>} promise @param {AbortSignal | null} [signal] @returns {Promise<T>} */
function unlessAborted(promise, signal) {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}

/** @param {number} ms @param {AbortSignal} signal ends it early */
function sleep(ms, signal) {
  return /** @type {Promise<void>} */ (new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    if (signal.aborted) done();
    signal.addEventListener('abort', done);
  }));
}

/** @param {AbortSignal} signal */
function untilVisible(signal) {
  return /** @type {Promise<void>} */ (new Promise((resolve) => {
    const check = () => {
      if (document.hidden && !signal.aborted) return;
      document.removeEventListener('visibilitychange', check);
      signal.removeEventListener('abort', check);
      resolve();
    };
    document.addEventListener('visibilitychange', check);
    signal.addEventListener('abort', check);
    check();
  }));
}
