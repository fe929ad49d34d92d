// Code generated from src by go generate ./proxy/browser; DO NOT EDIT.

// client.js follows the usage of one user of a Metergate gateway, live, in the browser.
//
//   import { createUsageClient } from 'https://gateway.example.com/usage/client.js';
//   const usage = createUsageClient({ getToken: () => session.token });
//   usage.subscribe((state) => render(state));   // { used: 42, limit: 100, pending: 0, ... }
//   await usage.fetch('https://gateway.example.com/api/analyze', { method: 'POST', body });
//
// The client does not count: the numbers are the last ones that the gateway sent. One
// stream serves all tabs of a browser; where a stream cannot be opened, the client polls.
// Problems show in `connection` and `stale` and never affect the application's calls.
// client.d.ts has the types.


// src/client/base.js
var SERVED_AT = /^(https?:.*\/)usage\/client\.js(?:[?#]|$)/;
function gatewayBase(baseUrl) {
  const text = String(baseUrl ?? SERVED_AT.exec(import.meta.url)?.[1] ?? "/");
  try {
    const base = new URL(text || "/", globalThis.document?.baseURI ?? globalThis.location?.href ?? "http://server.invalid");
    if (!/^(https?:|[./]|$)/i.test(text) || !base.host) throw null;
    if (!base.pathname.endsWith("/")) base.pathname += "/";
    base.search = base.hash = "";
    return base;
  } catch {
    throw new Error(`baseUrl is ${JSON.stringify(text)}, but must be an address like https://gateway.example.com or a path like /gateway`);
  }
}

// src/client/body.js
function noticeEnd(response, ended) {
  let reader;
  let open = true;
  const end = () => {
    if (open) ended();
    open = false;
  };
  const source = {
    async pull(controller) {
      try {
        const { done, value } = await reader.read();
        if (!done) return controller.enqueue(value);
        end();
        controller.close();
        controller.byobRequest?.respond(0);
      } catch (error) {
        end();
        throw error;
      }
    },
    cancel(reason) {
      end();
      return reader.cancel(reason);
    }
  };
  const { status, statusText, headers } = response;
  const copy = new Response(streamOf(source), { status, statusText, headers });
  reader = response.body.getReader();
  return imitate(copy, response);
}
function streamOf(source) {
  try {
    return new ReadableStream({ type: "bytes", ...source });
  } catch {
    return new ReadableStream(source, { highWaterMark: 0 });
  }
}
function imitate(copy, { url, redirected, type }) {
  for (const [name, value] of Object.entries({ url, redirected, type })) Object.defineProperty(copy, name, { value });
  copy.clone = () => imitate(Response.prototype.clone.call(copy), { url, redirected, type });
  return copy;
}

// src/client/guarded.js
function runGuarded(fn) {
  try {
    fn();
  } catch (error) {
    if (typeof reportError === "function") reportError(error);
    else console.error(error);
  }
}

// src/client/identity.js
function identityOf({ user, org = null, plan }) {
  return { user, org, plan };
}
function sameUser(a, b) {
  return a.user === b.user && a.org === b.org;
}
function sameIdentity(a, b) {
  return sameUser(a, b) && a.plan === b.plan;
}
var TELLING = /^\/(sub|iss|o\/.*)$|org|tenant/i;
function identityClaims({ user, org }, token) {
  const claims = readClaims(token);
  const values = [claims.get("/sub") === user ? void 0 : user, org];
  const telling = [...claims].filter(([place, value]) => TELLING.test(place) || values.includes(value));
  return [user, org ?? user].every((value) => telling.some((claim) => claim[1] === value)) ? JSON.stringify(telling.sort()) : null;
}
function isRefreshOf(identity, known, token) {
  const claims = identityClaims(identity, known);
  return known === token || claims !== null && claims === identityClaims(identity, token);
}
function readClaims(token) {
  const claims = /* @__PURE__ */ new Map();
  const collect = (value, place) => {
    if (value && typeof value === "object") {
      for (const name of Object.keys(value)) collect(value[name], `${place}/${name}`);
    } else claims.set(place, String(value));
  };
  try {
    const payload = (token ?? "").split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(payload), (c) => c.charCodeAt(0));
    collect(JSON.parse(new TextDecoder().decode(bytes)), "");
  } catch {
  }
  return claims;
}

// src/client/numbers.js
function isUsage(value) {
  return typeof value?.used === "number" && typeof value.as_of === "string" && typeof value.period === "object";
}
function admits(usage, endpoint) {
  return usage.allowed && (usage.endpoints?.[endpoint ?? ""]?.allowed ?? true);
}
function keepForecast(usage, known) {
  const same = known && known.exhausts_at !== void 0 && sameIdentity(identityOf(known), identityOf(usage));
  return same ? { exhausts_at: known.exhausts_at, ...usage } : usage;
}
function statusOf(usage, limit) {
  if (!limit) return "ok";
  if (!limit.endpoint && limit.limit === usage.limit && limit.used === usage.used) return usage.status;
  if (limit.used >= limit.limit) return "blocked";
  return limit.used * 100 >= limit.limit * 80 ? "warning" : "ok";
}
function newlyWarned(before, usage) {
  const known = new Map(before.limits.map((limit) => [limit.name, limit]));
  return usage.limits.filter((limit) => statusOf(usage, limit) === "warning" && statusOf(before, known.get(limit.name)) === "ok").map(({ name }) => name);
}
var Numbers = class {
  usage = null;
  // Where usage came from.
  source = null;
  // Since when every arriving object has been older than usage.
  #heldBackSince = 0;
  #floor = null;
  #core;
  constructor(core) {
    this.#core = core;
  }
  accept(usage, source) {
    const known = this.usage;
    if (known && this.source && known.user === usage.user && this.#isOlder(usage, source)) {
      if (usage.stale && !known.stale) this.usage = { ...known, stale: true };
      return false;
    }
    this.usage = keepForecast(usage, known);
    this.source = source;
    this.#heldBackSince = 0;
    const floor = this.#floor;
    const sameLimit = usage.period.start === floor?.start && usage.plan === known?.plan;
    if (floor && (usage.used >= floor.used || !sameLimit)) this.dropFloor();
    return true;
  }
  restore(usage) {
    this.usage = { ...usage, stale: true };
    this.source = null;
  }
  forget() {
    this.usage = null;
  }
  #isOlder(usage, source) {
    const known = this.usage;
    const age = Date.parse(known.as_of) - Date.parse(usage.as_of);
    const older = age > 0 || age === 0 && source !== this.source && usage.used < known.used;
    if (usage.stale) return older || usage.used < known.used && usage.period.start === known.period.start;
    if (!older) return false;
    this.#heldBackSince ||= Date.now();
    return Date.now() - this.#heldBackSince < 3e4;
  }
  raiseFloor(used, limit) {
    const usage = this.usage;
    if (!usage || used <= usage.used || used <= (this.#floor?.used ?? 0)) return;
    clearTimeout(this.#floor?.timer);
    const floor = this.#floor = { used, limit, start: usage.period.start, timer: void 0 };
    floor.timer = setTimeout(async () => {
      await this.#core.requests.read(this.#core.closed);
      if (this.#floor === floor) {
        this.#floor = null;
        this.#core.state.publish();
      }
    }, this.#core.timing.floor);
  }
  dropFloor() {
    clearTimeout(this.#floor?.timer);
    this.#floor = null;
  }
  current() {
    const usage = this.usage;
    return usage && { ...usage, ...this.#aboveFloor(usage) };
  }
  #aboveFloor(usage) {
    const floor = this.#floor;
    if (!floor) return {};
    const { used, limit } = floor;
    if (limit === null) return { used };
    const blocked = used >= limit;
    return {
      used,
      limit,
      remaining: Math.max(0, limit - used),
      percent: limit ? Math.floor(used * 100 / limit) : 100,
      status: blocked ? "blocked" : usage.status,
      // If calls are allowed although the limit is reached, the plan only observes.
      allowed: usage.allowed && (!blocked || usage.status === "blocked")
    };
  }
};

// src/client/waiting.js
function relayAbort(signal, controller) {
  const abort = () => controller.abort(signal.reason);
  if (signal.aborted) abort();
  signal.addEventListener("abort", abort);
  return () => signal.removeEventListener("abort", abort);
}
function startDeadline(signal, ms) {
  const controller = new AbortController();
  const stopRelaying = relayAbort(signal, controller);
  let timer = setTimeout(() => controller.abort(), ms);
  return {
    signal: controller.signal,
    extend(more) {
      clearTimeout(timer);
      timer = setTimeout(() => controller.abort(), more);
    },
    end() {
      clearTimeout(timer);
      stopRelaying();
      controller.abort();
    }
  };
}
function unlessAborted(promise, signal) {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}
function sleep(ms, signal) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    if (signal.aborted) done();
    signal.addEventListener("abort", done);
  });
}
function untilVisible(signal) {
  const { document: document2 } = globalThis;
  return new Promise((resolve) => {
    const check = () => {
      if (document2?.hidden && !signal.aborted) return;
      document2?.removeEventListener("visibilitychange", check);
      signal.removeEventListener("abort", check);
      resolve();
    };
    document2?.addEventListener("visibilitychange", check);
    signal.addEventListener("abort", check);
    check();
  });
}

// src/client/fetch.js
var NOT_IN_PLAN = "not_in_plan";
var QUOTA_EXCEEDED = "http-problem-types#quota-exceeded";
function copyToRepeat(input, request, init) {
  if (!request || init?.body) return init?.duplex ? null : input;
  const inMemory = !request.body || /json|text|urlencoded/.test(request.headers.get("Content-Type") ?? "");
  return inMemory ? request.clone() : null;
}
var CallFetcher = class {
  #unmetered = /* @__PURE__ */ new Set();
  #sawUsageHeader = false;
  #core;
  constructor(core) {
    this.#core = core;
  }
  async fetch(input, init) {
    const { closed, credentials, getToken, pending, requests, send } = this.#core;
    const request = typeof input === "object" && input && "headers" in input ? input : null;
    let url;
    try {
      url = new URL(request ? request.url : String(input), globalThis.document?.baseURI);
    } catch {
    }
    if (!url || !this.#isOfGateway(url)) return send(input, init);
    const headers = new Headers(init?.headers ?? request?.headers);
    if (headers.has("Authorization")) return send(input, init);
    const route = `${(init?.method ?? request?.method ?? "GET").toUpperCase()} ${url.pathname}`;
    const counts = !this.#isUsageAPI(url) && !this.#unmetered.has(route) && !closed.aborted;
    const signal = init?.signal ?? request?.signal;
    const sentAt = Date.now();
    let { token, session } = await unlessAborted(requests.token(false), signal);
    const unchosen = !request || request.credentials === "same-origin";
    const sendWith = (from) => {
      if (token) headers.set("Authorization", `Bearer ${token}`);
      return send(from, { ...credentials && unchosen && { credentials }, ...init, headers });
    };
    let call = counts && session ? pending.begin(route, init?.usageEndpoint) : null;
    try {
      const again = token && getToken ? copyToRepeat(input, request, init) : null;
      let response = await sendWith(input);
      if (response.status === 401 && again) {
        const another = await unlessAborted(requests.renew(token), signal).catch(() => null);
        signal?.throwIfAborted();
        const identity = another?.session?.identity;
        if (another?.token && another.token !== token && (!session?.identity || identity && sameUser(session.identity, identity))) {
          response.body?.cancel();
          ({ token, session } = another);
          response = await sendWith(again);
        }
      }
      const answered = call;
      call = null;
      let answer = response;
      runGuarded(() => {
        answer = this.#readResponse(route, answered, response, session, sentAt);
      });
      return answer;
    } finally {
      if (call) pending.end(call);
    }
  }
  #isOfGateway(url) {
    const { base } = this.#core;
    return url.origin === base.origin && `${url.pathname}/`.startsWith(base.pathname);
  }
  #isUsageAPI(url) {
    const path = url.pathname.slice(this.#core.base.pathname.length);
    return path === "usage" || path.startsWith("usage/");
  }
  #readResponse(route, call, response, session, sentAt) {
    const { getToken, pending, prices, requests, state, tabs } = this.#core;
    const ours = (!response.redirected || this.#isOfGateway(new URL(response.url))) && session === tabs.session;
    const header = ours ? response.headers.get("X-Usage") : null;
    const [, used, limit] = /^(\d+)\/(\d+|unlimited)$/.exec(header ?? "") ?? [];
    if (used !== void 0) {
      this.#sawUsageHeader = true;
      this.#unmetered.delete(route);
      if (response.ok && getToken) state.numbers.raiseFloor(Number(used), limit === "unlimited" ? null : Number(limit));
    } else if (response.ok && this.#sawUsageHeader && this.#unmetered.size < 100) {
      this.#unmetered.add(route);
    }
    const number = (name) => Number(ours && response.ok && /^\d+$/.exec(response.headers.get(name) ?? "")?.[0] || NaN);
    let answer = response;
    if (call) {
      const [cost, rest] = [number("X-Usage-Cost"), number("X-Usage-Pending")];
      if (cost >= 0) prices.learnCharge(call, cost, rest || 0);
      if (rest > 0 && response.body) {
        pending.awaitRest(call, rest);
        answer = noticeEnd(response, () => {
          pending.endWithNumbers(call);
          if (state.connection !== "live") requests.refreshSoon(50);
        });
      } else {
        pending.end(call);
      }
    }
    if (response.ok && state.connection !== "live") requests.refreshSoon(50);
    if (ours && (response.status === 429 || response.status === 403) && response.headers.get("Content-Type")?.startsWith("application/problem+json")) {
      this.#readRefusal(route, response.clone(), session, sentAt).catch(() => {
      });
    }
    return answer;
  }
  async #readRefusal(route, response, session, sentAt) {
    const { prices, state, tabs } = this.#core;
    const problem = await response.json();
    if (typeof problem.endpoint === "string") prices.learnEndpoint(route, problem.endpoint);
    const refused = problem.reason === NOT_IN_PLAN || String(problem.type).endsWith(QUOTA_EXCEEDED);
    if (!refused || session !== tabs.session) return;
    const usage = isUsage(problem.usage) ? problem.usage : null;
    if (usage && session?.identity && !sameUser(identityOf(usage), session.identity)) return;
    state.refuse({
      endpoint: problem.endpoint ?? null,
      violated: problem["violated-policies"] ?? [],
      reason: problem.reason ?? null,
      detail: problem.detail ?? "",
      upgrade_url: problem.upgrade_url ?? null,
      retry_after: Number(response.headers.get("Retry-After")) || null,
      sent_at: sentAt
    }, usage, session);
  }
};

// src/client/event-stream.js
var EventStreamParser = class {
  // It keeps half a character for the next chunk, and drops a byte order mark.
  #decoder = new TextDecoder();
  // The beginning of a line whose end has not arrived yet.
  #line = "";
  // Whether the last chunk ended with CR: a leading LF belongs to that line end.
  #afterCR = false;
  #type = "";
  #data = "";
  constructor(onEvent) {
    this.onEvent = onEvent;
  }
  push(bytes) {
    let text = this.#decoder.decode(bytes, { stream: true });
    if (text === "") return;
    if (this.#afterCR && text[0] === "\n") text = text.slice(1);
    this.#afterCR = text === "" ? false : text.endsWith("\r");
    const lines = (this.#line + text).split(/\r\n|\n|\r/);
    this.#line = lines.pop();
    for (const line of lines) this.#parseLine(line);
    if (this.#line.length + this.#data.length > 1 << 20) throw new Error("an event without an end");
  }
  #parseLine(line) {
    if (line === "") {
      const [type, data] = [this.#type || "message", this.#data];
      this.#type = this.#data = "";
      if (data !== "") this.onEvent(type, data.slice(0, -1));
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (field === "event") this.#type = value;
    if (field === "data") this.#data += `${value}
`;
  }
};

// src/client/poller.js
var Poller = class {
  #running = null;
  constructor(job, signal, ms) {
    this.job = job;
    this.signal = signal;
    this.ms = ms;
    signal.addEventListener("abort", () => this.stop(), { once: true });
  }
  async start() {
    if (this.#running || this.signal.aborted) return;
    const running = this.#running = new AbortController();
    while (!running.signal.aborted) {
      await this.job(running.signal);
      await sleep(this.ms * (0.9 + Math.random() / 5), running.signal);
    }
  }
  stop() {
    this.#running?.abort();
    this.#running = null;
  }
};

// src/client/requests.js
var Unauthorized = class extends Error {
};
var TokenError = class extends Error {
};
function problemOf(error) {
  if (error instanceof Unauthorized) return "unauthorized";
  return error instanceof TokenError ? "token" : "unreachable";
}
var Requests = class {
  #core;
  #refreshTimer;
  // getToken has been called so often, and this call of it is the last that has answered.
  #asked = 0;
  #answered = 0;
  #renewal = null;
  constructor(core) {
    this.#core = core;
  }
  async token(refresh) {
    const { getToken, tabs } = this.#core;
    const asked = ++this.#asked;
    const token = getToken ? await getToken({ refresh }) || null : null;
    if (asked > this.#answered) {
      this.#answered = asked;
      tabs.useToken(token);
    }
    return { token, session: tabs.session?.token === token ? tabs.session : null };
  }
  async renew(refused) {
    const { session } = this.#core.tabs;
    if (session && session.token !== refused) return { token: session.token, session };
    this.#renewal ??= this.token(true).finally(() => {
      this.#renewal = null;
    });
    return this.#renewal;
  }
  async send(path, signal, { accept = "application/json", refresh = false, first } = {}) {
    const { base, credentials, getToken, send, tabs } = this.#core;
    const url = new URL(path, base);
    const sendWith = (token2) => {
      signal.throwIfAborted();
      const headers = { Accept: accept, ...token2 && { Authorization: `Bearer ${token2}` } };
      return send(url, { headers, signal, cache: "no-store", ...credentials && { credentials } });
    };
    const patiently = (answer) => unlessAborted(answer.catch((cause) => {
      throw new TokenError("getToken", { cause });
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
  async read(signal, first) {
    const { tabs, timing } = this.#core;
    const limit = startDeadline(signal, timing.firstEvent);
    try {
      const { response, session } = await this.send("usage", limit.signal, { first });
      if (!response.ok) {
        response.body?.cancel();
        return "unavailable";
      }
      const usage = await response.json();
      if (!isUsage(usage)) return "unavailable";
      if (!signal.aborted) tabs.learn(session, usage, "read");
      return null;
    } catch (error) {
      return problemOf(error);
    } finally {
      limit.end();
    }
  }
  async history(days) {
    const limit = startDeadline(this.#core.closed, this.#core.timing.firstEvent);
    let answer, problem, cause;
    try {
      const { response } = await this.send(`usage/history${days === void 0 ? "" : `?days=${days}`}`, limit.signal);
      answer = await response.json().catch(() => null);
      if (response.ok && Array.isArray(answer?.days)) return answer;
      problem = response.status === 404 && answer?.status === 404 ? "off" : "unavailable";
    } catch (error) {
      problem = problemOf(cause = error);
    } finally {
      limit.end();
    }
    throw Object.assign(new Error(answer?.detail ?? problem, { cause }), { problem });
  }
  async refresh() {
    const { closed } = this.#core;
    if (!closed.aborted) await this.read(closed);
  }
  refreshSoon(ms) {
    clearTimeout(this.#refreshTimer);
    this.#refreshTimer = setTimeout(() => this.refresh(), ms);
  }
  close() {
    clearTimeout(this.#refreshTimer);
  }
};

// src/client/timing.js
var TIMING = {
  poll: 1e4,
  // between two reads where there is no stream
  firstEvent: 1e4,
  // a stream that has sent no event by then is being buffered on its way
  impatience: 2e3,
  // wait for the stream's first event; after that GET /usage is read as well
  dead: 4e4,
  // a stream without a byte for this long is dead; the gateway sends one every 15 s
  backoff: 1e3,
  // upper bound of the wait before the first retry; it doubles with each failure
  backoffMax: 3e4,
  // up to this
  settled: 1e4,
  // a stream that lasted this long was a good one
  floor: 2e3,
  // how long the stream may take to confirm X-Usage
  grace: 5e3,
  // a hidden tab that becomes visible again by then keeps its turn
  leaderSilent: 4e3,
  // then a tab asks the leading one for a sign; after three times, and up to a fifth more, it takes over
  leadersAnswer: 100
  // wait for other tabs to say that they stream, where there are no locks
};
function backoff(timing, failures) {
  return Math.random() * Math.min(timing.backoffMax, timing.backoff * 2 ** failures);
}

// src/client/follower.js
var Follower = class {
  #core;
  constructor(core) {
    this.#core = core;
  }
  async follow(session, signal) {
    const { state, tabs, timing } = this.#core;
    const poller = new Poller((pollSignal) => this.#poll(session, pollSignal), signal, timing.poll);
    let failures = 0;
    let refresh = false;
    if (!session.streams) {
      poller.start();
      await new Promise((resolve) => {
        signal.addEventListener("abort", resolve);
      });
    }
    while (!signal.aborted) {
      const end = await this.#stream(session, signal, poller, refresh);
      if (signal.aborted) return;
      refresh = end.reason === "token_expired";
      if (refresh && end.good) {
        failures = 0;
        continue;
      }
      failures = end.good ? 0 : failures + 1;
      if (end.problem === "unauthorized" || end.problem === "token") {
        poller.stop();
        state.setConnection("offline", end.problem);
        session.post(tabs.report("offline"));
      } else if (!end.started || failures > 1) {
        poller.start();
      }
      await session.nap(Math.max(end.retryAfter, backoff(timing, failures)), signal);
    }
  }
  async #stream(session, signal, poller, refresh) {
    const { requests, state, tabs, timing } = this.#core;
    const end = { started: false, good: false, reason: "", problem: null, retryAfter: 0 };
    const limit = startDeadline(signal, timing.firstEvent);
    const impatience = setTimeout(() => poller.start(), timing.impatience);
    let began = 0;
    let told = false;
    try {
      const { response, session: answered } = await requests.send("usage/stream", limit.signal, { accept: "text/event-stream", refresh });
      if (answered !== session) return end;
      if (!response.ok || !response.body || !response.headers.get("Content-Type")?.startsWith("text/event-stream")) {
        end.retryAfter = Math.min(600, Number(response.headers.get("Retry-After")) || 0) * 1e3;
        end.problem = "unavailable";
        return end;
      }
      const parser = new EventStreamParser((type, data) => {
        if (type === "usage") {
          const usage = JSON.parse(data);
          if (!isUsage(usage)) return;
          told = true;
          if (!end.started) {
            end.started = true;
            began = Date.now();
            clearTimeout(impatience);
            poller.stop();
            state.goLive();
          }
          tabs.learn(session, usage, "stream");
        } else if (type === "end") {
          end.reason = JSON.parse(data).reason;
        }
      });
      const reader = response.body.getReader();
      while (!end.reason) {
        const { done, value } = await reader.read();
        if (done) break;
        told = false;
        parser.push(value);
        if (end.started) limit.extend(timing.dead);
        if (!told) session.post(tabs.report(state.connection));
      }
    } catch (error) {
      end.problem = problemOf(error);
    } finally {
      clearTimeout(impatience);
      limit.end();
      const lived = began ? Date.now() - began : 0;
      end.good = lived >= timing.settled || end.reason !== "" && lived >= 1e3;
    }
    return end;
  }
  async #poll(session, signal) {
    const { requests, state, tabs } = this.#core;
    const problem = await requests.read(signal);
    if (signal.aborted) return;
    const back = !problem && state.connection === "offline";
    state.setConnection(problem ? "offline" : "polling", problem);
    session.post(tabs.report(state.connection));
    tabs.countLeaders(session);
    if (back) session.wake();
  }
};

// src/client/pending.js
var PendingCalls = class {
  #calls = /* @__PURE__ */ new Set();
  // How often the user has changed. Calls of the previous user are not shown to the next.
  #era = 0;
  #others = /* @__PURE__ */ new Map();
  #timer;
  #core;
  constructor(core) {
    this.#core = core;
  }
  get mine() {
    const calls = [...this.#calls].filter((call) => call.era === this.#era);
    const { prices } = this.#core;
    return {
      count: calls.filter((call) => call.rest === void 0).length,
      units: calls.reduce((sum, call) => sum + (call.rest ?? prices.priceOf(call)), 0)
    };
  }
  total() {
    const quantity = this.#core.state.numbers.usage?.unit === "units" ? "units" : "count";
    return [this.mine, ...this.#others.values()].reduce((sum, calls) => sum + calls[quantity], 0);
  }
  begin(route, endpoint) {
    const call = { era: this.#era, route, endpoint, costs: this.#core.prices.readCosts() };
    this.#calls.add(call);
    this.tell();
    this.#core.state.publish();
    return call;
  }
  awaitRest(call, rest) {
    call.rest = rest;
    call.since = Date.now();
    this.tell();
    this.#core.state.publish();
  }
  endWithNumbers(call) {
    const { closed, requests, state, timing } = this.#core;
    if (state.numbers.usage?.in_flight === 0) return this.end(call);
    call.over = true;
    setTimeout(async () => {
      if (!this.#calls.has(call) || closed.aborted) return;
      await requests.read(closed);
      if (this.#calls.has(call)) this.end(call);
    }, timing.floor);
  }
  numbersChanged(nothingHeld) {
    for (const call of this.#calls) {
      const forgotten = nothingHeld && call.rest !== void 0 && Date.now() - (call.since ?? 0) > 5e3;
      if (call.over || forgotten) this.end(call);
    }
  }
  end(call) {
    this.#calls.delete(call);
    this.tell();
    this.#core.state.publish();
  }
  userChanged() {
    this.#era++;
  }
  tell() {
    this.#core.tabs.session?.post({ type: "pending", id: this.#core.id, ...this.mine });
    this.#watch();
  }
  setOther({ id, count, units = count }) {
    if (count > 0 || units > 0) this.#others.set(id, { count, units, at: Date.now() });
    else this.#others.delete(id);
    this.#watch();
    this.#core.state.publish();
  }
  removeOther(id) {
    if (this.#others.delete(id)) this.#core.state.publish();
  }
  clearOthers() {
    if (!this.#others.size) return;
    this.#others.clear();
    this.#core.state.publish();
  }
  #watch() {
    clearInterval(this.#timer);
    if (!this.#calls.size && !this.#others.size || this.#core.closed.aborted) return;
    this.#timer = setInterval(() => {
      for (const [id, { at }] of this.#others) {
        if (Date.now() - at > 9e4) this.#others.delete(id);
      }
      if (this.#calls.size) this.tell();
      else this.#watch();
      this.#core.state.publish();
    }, 2e4);
  }
  close() {
    clearInterval(this.#timer);
  }
};

// src/client/prices.js
var MOST_ROUTES = 100;
var Prices = class {
  #candidates = /* @__PURE__ */ new Map();
  #endpoints = {};
  // The costs of all endpoints, as text.
  #costs = "";
  #core;
  constructor(core) {
    this.#core = core;
  }
  readCosts() {
    const { endpoints = {} } = this.#core.state.numbers.usage ?? {};
    if (endpoints !== this.#endpoints) {
      this.#endpoints = endpoints;
      const costs = JSON.stringify(Object.entries(endpoints).map(([name, { cost }]) => [name, cost]));
      if (costs !== this.#costs) this.#candidates.clear();
      this.#costs = costs;
    }
    return this.#costs;
  }
  priceOf({ route, endpoint }) {
    this.readCosts();
    const endpoints = this.#endpoints;
    const names = endpoints[endpoint ?? ""]?.cost ? [endpoint ?? ""] : this.#candidates.get(route) ?? [];
    const prices = (names.length ? names : Object.keys(endpoints)).map((name) => endpoints[name]?.cost?.max ?? 1);
    return prices.length ? Math.min(...prices) : 1;
  }
  learnCharge({ route, costs }, charged, rest) {
    if (costs !== this.readCosts()) return;
    const fits = (name) => {
      const { min, max } = this.#endpoints[name]?.cost ?? { min: 1, max: 1 };
      return rest ? min === charged && max === charged + rest : min <= charged && charged <= max;
    };
    this.#learn(route, (this.#candidates.get(route) ?? Object.keys(this.#endpoints)).filter(fits));
  }
  learnEndpoint(route, endpoint) {
    this.#learn(route, [endpoint]);
  }
  #learn(route, names) {
    this.#candidates.delete(route);
    if (names.length) this.#candidates.set(route, names);
    if (this.#candidates.size > MOST_ROUTES) this.#candidates.delete(this.#candidates.keys().next().value ?? "");
  }
};

// src/client/state.js
var State = class {
  current = null;
  connection = "idle";
  problem = null;
  numbers;
  #refused = null;
  #shown = null;
  // by the last state
  #subscribers = /* @__PURE__ */ new Set();
  #core;
  #target;
  constructor(core, target) {
    this.#core = core;
    this.#target = target;
    this.numbers = new Numbers(core);
  }
  subscribe(fn) {
    const subscriber = (state) => fn(state);
    this.#subscribers.add(subscriber);
    if (this.current) runGuarded(() => subscriber(this.current));
    return () => {
      this.#subscribers.delete(subscriber);
    };
  }
  learn(usage, source, { keepRefused = false } = {}) {
    const accepted = this.numbers.accept(usage, source);
    if (accepted && !keepRefused && this.#refused && admits(usage, this.#refused.endpoint)) this.#refused = null;
    if (accepted) queueMicrotask(() => this.#core.pending.numbersChanged(usage.in_flight === 0 && !usage.stale));
    this.publish();
    return accepted;
  }
  refuse(refusal, usage, session) {
    this.#refused = refusal;
    if (usage) this.#core.tabs.learn(session, usage, "read", { keepRefused: true });
    else this.publish();
    if (this.current) this.#dispatch("usage-exceeded", { ...this.current, ...refusal });
  }
  dismiss() {
    this.#refused = null;
    this.publish();
  }
  promptUpgrade(endpoint) {
    if (this.current) this.#dispatch("upgrade-prompt", { ...this.current, endpoint });
  }
  restore(usage) {
    if (this.numbers.usage) return;
    this.numbers.restore(usage);
    this.publish();
  }
  forgetUser() {
    this.#refused = null;
    this.numbers.dropFloor();
    this.numbers.forget();
    this.publish();
  }
  setConnection(connection, problem = null) {
    if (this.connection === connection && this.problem === problem) return;
    this.connection = connection;
    this.problem = problem;
    this.#dispatch("connection", { connection, problem });
    this.publish();
  }
  goLive() {
    this.connection = "live";
    this.problem = null;
    this.#dispatch("connection", { connection: "live", problem: null });
  }
  publish() {
    if (this.#core.closed.aborted) return;
    const before = this.current;
    const shown = this.#shown;
    const usage = this.#shown = this.numbers.usage;
    const numbers = this.numbers.current();
    const state = this.current = numbers && {
      ...numbers,
      pending: this.#core.pending.total(),
      stale: numbers.stale || this.connection === "offline",
      connection: this.connection,
      refused: this.#refused
    };
    if (!state && !before) return;
    for (const fn of [...this.#subscribers]) runGuarded(() => fn(state));
    if (!state) return;
    this.#dispatch("usage", state);
    const warned = usage && shown ? newlyWarned(shown, usage) : [];
    if (warned.length) this.#dispatch("usage-warning", { ...state, warned });
  }
  #dispatch(type, detail) {
    runGuarded(() => this.#target.dispatchEvent(new CustomEvent(type, { detail })));
  }
  close() {
    this.numbers.dropFloor();
    this.#subscribers.clear();
  }
};

// src/client/memory.js
var keyOf = ({ base }) => `metergate-usage ${base.href}`;
function keepNumbers(core) {
  const { state: { numbers: { usage } }, tabs: { session } } = core;
  const claims = session?.identity && identityClaims(session.identity, session.token);
  if (!usage || !claims) return;
  try {
    sessionStorage.setItem(keyOf(core), JSON.stringify({ claims, usage }));
  } catch {
  }
}
function keptNumbers(core, token) {
  try {
    const { claims, usage } = JSON.parse(sessionStorage.getItem(keyOf(core)) ?? "");
    if (isUsage(usage) && claims && claims === identityClaims(identityOf(usage), token)) return usage;
  } catch {
  }
  dropKeptNumbers(core);
  return null;
}
function dropKeptNumbers(core) {
  try {
    sessionStorage.removeItem(keyOf(core));
  } catch {
  }
}

// src/client/session.js
var Session = class {
  #controller = new AbortController();
  #turn = null;
  #timers = /* @__PURE__ */ new Map();
  #wakers = /* @__PURE__ */ new Set();
  channel = null;
  leading = false;
  streams = false;
  // the present turn, or else polls
  leaders = /* @__PURE__ */ new Map();
  // Whether the next turn takes the lock from its holder.
  steal = false;
  // Whom the gateway counts for.
  identity = null;
  // Of the channel and the lock.
  name = "";
  constructor(token) {
    this.token = token;
  }
  get signal() {
    return this.#controller.signal;
  }
  share(identity, gateway, open) {
    this.identity = identity;
    this.name = `metergate-usage ${gateway} ${JSON.stringify([identity.user, identity.org, identity.plan])}`;
    if (!open || typeof BroadcastChannel !== "function") return;
    try {
      this.channel = new BroadcastChannel(this.name);
    } catch {
    }
  }
  get locks() {
    return this.channel && (globalThis.navigator?.locks ?? null);
  }
  post(message) {
    try {
      this.channel?.postMessage(message);
    } catch {
    }
  }
  after(ms, fn, name = fn) {
    this.cancelTimer(name);
    if (this.signal.aborted) return;
    this.#timers.set(name, setTimeout(() => {
      this.#timers.delete(name);
      fn();
    }, ms));
  }
  cancelTimer(name) {
    clearTimeout(this.#timers.get(name));
    this.#timers.delete(name);
  }
  async nap(ms, signal) {
    const waker = new AbortController();
    const stopRelaying = relayAbort(signal, waker);
    this.#wakers.add(waker);
    await sleep(ms, waker.signal);
    this.#wakers.delete(waker);
    stopRelaying();
  }
  wake() {
    for (const waker of this.#wakers) waker.abort();
  }
  beginTurn() {
    this.#turn = new AbortController();
    if (this.signal.aborted) this.#turn.abort();
    return this.#turn;
  }
  get inTurn() {
    return this.#turn !== null && !this.#turn.signal.aborted;
  }
  endTurn() {
    this.#turn?.abort();
  }
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
};

// src/client/tabs.js
var Tabs = class {
  session = null;
  // The session before, after the present one has ended.
  #last = null;
  // How often in a row the gateway has not named the user.
  #failures = 0;
  #graceTimer;
  #core;
  constructor(core) {
    this.#core = core;
  }
  async start() {
    const { closed, requests, state, timing } = this.#core;
    for (let failures = 0; !this.session && !closed.aborted; failures++) {
      try {
        await requests.token(false);
      } catch {
        state.setConnection("offline", "token");
        await sleep(backoff(timing, failures), closed);
      }
    }
  }
  endSession() {
    const session = this.session;
    if (!session) return;
    this.session = null;
    this.#last = session;
    session.post({ type: "left", id: this.#core.id });
    session.end();
    this.#core.pending.clearOthers();
  }
  useToken(token) {
    if (this.#core.closed.aborted) return;
    if (!this.#core.follows) return;
    const before = this.session ?? this.#last;
    const identity = before?.identity ?? null;
    const same = before?.token === token || identity && isRefreshOf(identity, before?.token ?? null, token);
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
  #begin(token, identity) {
    const session = this.session = new Session(token);
    if (identity) this.#share(session, identity);
    else this.#identify(session);
  }
  async #identify(session) {
    const { requests, state, timing } = this.#core;
    const kept = keptNumbers(this.#core, session.token);
    if (kept) session.after(timing.impatience, () => state.restore(kept));
    for (let first = session; ; first = void 0) {
      await untilVisible(session.signal);
      if (session.signal.aborted || session.identity) return;
      const problem = await requests.read(session.signal, first);
      if (session.signal.aborted || session.identity) return;
      if (kept && problem !== "unauthorized") state.restore(kept);
      if (problem) state.setConnection("offline", problem);
      await session.nap(backoff(timing, ++this.#failures), session.signal);
    }
  }
  #share(session, identity) {
    const { base, pending, poll } = this.#core;
    this.#failures = 0;
    session.share(identity, base.href, !poll);
    if (session.channel) {
      session.channel.onmessage = (e) => this.#hear(session, e.data);
      session.post({ type: "hello" });
    }
    if (pending.mine.count) pending.tell();
    session.wake();
    this.#takeTurns(session);
  }
  learn(session, usage, source, options) {
    if (session !== this.session) return;
    const identity = identityOf(usage);
    if (session && !session.identity) this.#share(session, identity);
    if (session?.identity && !sameUser(session.identity, identity)) {
      this.#forgetUser();
      this.#move(session, identity);
    }
    const accepted = this.#core.state.learn(usage, source, options);
    if (accepted && !usage.stale && this.session?.identity && this.session.identity.plan !== identity.plan) {
      this.#move(this.session, identity);
    }
    this.#tellUsage();
  }
  #move(session, identity) {
    if (session.leading) session.post({ type: "moved" });
    this.endSession();
    this.#begin(session.token, identity);
  }
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
        if (error?.name !== "AbortError") session.unshare();
      } finally {
        turn.abort();
        session.leading = false;
      }
    }
  }
  async #lead(session, signal) {
    const { follower, state } = this.#core;
    if (signal.aborted) return;
    session.leading = true;
    session.streams = this.#mayStream(session);
    session.cancelTimer("leader");
    await follower.follow(session, signal);
    session.leading = false;
    if (session.signal.aborted || !document.hidden) return;
    state.setConnection("idle");
    session.post(this.report("idle"));
  }
  #mayStream({ channel, leaders, locks }) {
    if (this.#core.poll) return false;
    if (locks || !channel) return true;
    const older = [...leaders].filter(([id, heard]) => id < this.#core.id && Date.now() - heard < 45e3);
    return older.length < 2;
  }
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
    requests.token(false).catch(() => {
    });
  }
  async #pauseUnlessWatched() {
    const session = this.session;
    if (!session?.inTurn || !document.hidden) return;
    if (session.leading && session.locks && this.#core.state.connection === "live") {
      const { pending = [] } = await navigator.locks.query();
      if (!document.hidden || session.signal.aborted) return;
      if (pending.some((lock) => lock.name === session.name)) {
        clearTimeout(this.#graceTimer);
        this.#graceTimer = setTimeout(() => this.#pauseUnlessWatched(), 6e4);
        return;
      }
    }
    session.endTurn();
    session.post({ type: "hidden" });
  }
  #watchLeader(session, asked = 0) {
    if (!session.locks || session.leading) return;
    session.after(this.#core.timing.leaderSilent * (1 + Math.random() / 5), () => {
      if (session.leading || document.hidden) return;
      if (asked < 2) {
        session.post({ type: "hello" });
        this.#watchLeader(session, asked + 1);
        return;
      }
      session.steal = true;
      session.endTurn();
    }, "leader");
  }
  #hear(session, message) {
    const { pending, requests, state } = this.#core;
    if (session !== this.session || !session.identity || !message) return;
    const usage = isUsage(message.usage) && sameUser(identityOf(message.usage), session.identity) ? message.usage : null;
    if (usage) state.learn(usage, message.source);
    if (message.lead) {
      if (message.connection === "idle") session.leaders.delete(message.id);
      else session.leaders.set(message.id, Date.now());
      this.countLeaders(session);
      this.#watchLeader(session);
      if (!session.leading) state.setConnection(message.connection, message.problem);
      return;
    }
    switch (message.type) {
      case "moved":
        requests.read(session.signal);
        break;
      case "hello":
        session.after(0, () => session.leading && session.post(this.report(state.connection)), "sign");
        if (pending.mine.units) pending.tell();
        break;
      case "pending":
        pending.setOther(message);
        break;
      case "left":
        session.leaders.delete(message.id);
        this.countLeaders(session);
        pending.removeOther(message.id);
        this.#pauseUnlessWatched();
        break;
      case "hidden":
        this.#pauseUnlessWatched();
    }
  }
  #tellUsage() {
    const { session } = this;
    const { connection, numbers } = this.#core.state;
    if (session?.leading) session.post(this.report(connection));
    else session?.post({ type: "usage", usage: numbers.usage, source: numbers.source });
  }
  report(connection) {
    const { numbers, problem } = this.#core.state;
    return { lead: true, id: this.#core.id, usage: numbers.usage, source: numbers.source, connection, problem };
  }
  close() {
    if (this.session) dropKeptNumbers(this.#core);
    this.endSession();
    clearTimeout(this.#graceTimer);
  }
};

// src/client/core.js
var Core = class {
  #life = new AbortController();
  closed = this.#life.signal;
  id = Date.now().toString(36) + Math.random().toString(36).slice(2);
  constructor(target, base, { getToken, credentials, poll, send }, timing) {
    this.base = base;
    this.getToken = getToken;
    this.credentials = credentials;
    this.send = send;
    this.poll = poll;
    this.follows = poll || typeof document !== "undefined";
    this.timing = { ...TIMING, ...timing };
    this.state = new State(this, target);
    this.prices = new Prices(this);
    this.pending = new PendingCalls(this);
    this.requests = new Requests(this);
    this.tabs = new Tabs(this);
    this.follower = new Follower(this);
    this.calls = new CallFetcher(this);
  }
  close() {
    if (this.closed.aborted) return;
    this.tabs.close();
    this.#life.abort();
    this.requests.close();
    this.pending.close();
    this.state.close();
  }
};

// src/client/usage-client.js
function createUsageClient(options) {
  return new UsageClient(options);
}
var UsageClient = class extends EventTarget {
  #core;
  constructor({ baseUrl, getToken, credentials, fetch = globalThis.fetch, poll = false, timing } = {}) {
    super();
    const core = this.#core = new Core(this, gatewayBase(baseUrl), { getToken, credentials, poll, send: fetch.bind(globalThis) }, timing);
    if (!core.follows) return;
    const { closed: signal, tabs } = core;
    const on = (target, type, handle) => target?.addEventListener?.(type, handle, { signal });
    on(globalThis.document, "visibilitychange", () => tabs.visibilityChanged());
    on(globalThis, "online", () => tabs.session?.wake());
    on(globalThis, "pagehide", () => {
      keepNumbers(core);
      tabs.endSession();
    });
    on(globalThis, "pageshow", (e) => e.persisted && tabs.start());
    queueMicrotask(() => tabs.start());
  }
  get current() {
    return this.#core.state.current;
  }
  get connection() {
    return this.#core.state.connection;
  }
  get problem() {
    return this.#core.state.problem;
  }
  get baseUrl() {
    return this.#core.base.href;
  }
  subscribe = (fn) => this.#core.state.subscribe(fn);
  refresh = async () => {
    await this.#core.requests.refresh();
    return this.current;
  };
  close = () => this.#core.close();
  canSend = (endpoint) => !this.current || admits(this.current, endpoint ?? null);
  history = (days) => this.#core.requests.history(days);
  promptUpgrade = (endpoint = null) => this.#core.state.promptUpgrade(endpoint);
  dismiss = () => this.#core.state.dismiss();
  fetch = async (input, init) => this.#core.calls.fetch(input, init);
};
export {
  EventStreamParser,
  UsageClient,
  createUsageClient
};
