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
var pageURL = () => globalThis.document?.baseURI ?? globalThis.location?.href;
function gatewayBase(baseUrl) {
  const text = String(baseUrl ?? SERVED_AT.exec(import.meta.url)?.[1] ?? "/");
  try {
    const base = new URL(text || "/", pageURL() ?? "http://server.invalid");
    if (!/^(https?:|[./]|$)/i.test(text) || !base.host) throw null;
    if (!base.pathname.endsWith("/")) base.pathname += "/";
    base.search = base.hash = "";
    return base;
  } catch {
    throw new Error(`baseUrl must be a URL or a path like /gateway, not "${text}"`);
  }
}

// src/client/timing.js
var TIMING = {
  poll: 8e3,
  // between two reads where there is no stream; up to a fifth more, so at most the documented 10 s
  firstEvent: 1e4,
  // a stream that has sent no event by then is being buffered on its way
  impatience: 2e3,
  // wait for the stream's first event; after that GET /usage is read as well
  dead: 4e4,
  // a stream without a byte for this long is dead; the gateway sends one every 15 s
  backoff: 1e3,
  // upper bound of the wait before the first retry; it doubles with each failure, up to 30 times as much
  settled: 1e4,
  // a stream that lasted this long was a good one
  floor: 2e3,
  // how long the stream may take to confirm X-Usage
  grace: 5e3,
  // a hidden tab that becomes visible again by then keeps its turn
  leaderSilent: 4e3
  // then a tab asks the leading one for a sign; after three times, and up to a fifth more, it takes over
};
function backoff({ timing }, failures) {
  return Math.random() * timing.backoff * Math.min(30, 2 ** failures);
}

// src/client/core.js
function newCore(target, base, { getToken, credentials, poll: poll2, send, timing }) {
  const life = new AbortController();
  return {
    target,
    base,
    getToken,
    credentials,
    poll: poll2,
    send,
    timing: { ...TIMING, ...timing },
    life,
    closed: life.signal,
    id: `${Date.now()}${Math.random()}`,
    // On a server nobody watches.
    follows: poll2 || globalThis.document,
    // Shown to the application, see state.js.
    current: null,
    connection: "idle",
    problem: null,
    refused: null,
    subscribers: /* @__PURE__ */ new Set(),
    // The newest numbers, see numbers.js.
    usage: null,
    // The running calls of this tab, and of the others, see pending.js.
    calls: /* @__PURE__ */ new Set(),
    otherCalls: /* @__PURE__ */ new Map(),
    // The endpoints that a route, as "METHOD path", may count under, and the costs of all, as text: see prices.js.
    candidates: /* @__PURE__ */ new Map(),
    costs: "",
    // getToken has been called so often, and that call of it is the last that has answered: see requests.js.
    asked: 0,
    answered: 0,
    // See tabs.js. failures: how often in a row the gateway
    // has not named the user.
    session: null,
    failures: 0,
    // Routes that are not metered, see fetch.js.
    unmetered: /* @__PURE__ */ new Set()
  };
}

// src/client/body.js
function noticeEnd(response, ended) {
  let reader;
  const source = {
    async pull(controller) {
      try {
        const { done, value } = await reader.read();
        if (!done) return controller.enqueue(value);
        ended();
        controller.close();
        controller.byobRequest?.respond(0);
      } catch (error) {
        ended();
        throw error;
      }
    },
    cancel(reason) {
      ended();
      return reader.cancel(reason);
    }
  };
  const copy = new Response(streamOf(source), response);
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
function imitate(copy, original) {
  for (const name of ["url", "redirected", "type"]) Object.defineProperty(copy, name, { value: original[name] });
  copy.clone = () => imitate(Response.prototype.clone.call(copy), original);
  return copy;
}

// src/client/identity.js
var sameUser = (a, b) => a.user === b?.user && a.org === b.org;
var TELLING = /^\/(sub|iss|o\/.*)$|org|tenant/i;
function identityClaims(identity, token) {
  const claims = readClaims(token);
  const { user, org } = identity ?? { user: claims.get("/sub") };
  const values = [claims.get("/sub") === user ? void 0 : user, org];
  const telling = [...claims].filter(([place, value]) => TELLING.test(place) || values.includes(value));
  return [user, org ?? user].every((value) => telling.some((claim) => claim[1] === value)) ? JSON.stringify(telling.sort()) : null;
}
function isRefreshOf(identity, known, token) {
  const claims = identityClaims(identity, known);
  return claims && claims === identityClaims(identity, token);
}
function readClaims(token) {
  const claims = /* @__PURE__ */ new Map();
  const collect = (value, place) => {
    if (typeof value !== "object") claims.set(place, String(value));
    else for (const name in value) collect(value[name], `${place}/${name}`);
  };
  try {
    const payload = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(payload), (c) => c.charCodeAt(0));
    collect(JSON.parse(new TextDecoder().decode(bytes)), "");
  } catch {
  }
  return claims;
}

// src/client/event-stream.js
var EventStreamParser = class {
  // It keeps half a character for the next chunk, and drops a byte order mark.
  #decoder = new TextDecoder();
  // The beginning of a line whose end has not arrived yet.
  #line = "";
  #type = "";
  #data = "";
  constructor(onEvent) {
    this.onEvent = onEvent;
  }
  push(bytes) {
    const lines = (this.#line + this.#decoder.decode(bytes, { stream: true })).split(/\r\n|\n|\r(?=[^\n])/);
    this.#line = lines.pop();
    for (const line of lines) {
      const [, field, value] = /^([^:]*):? ?(.*)/s.exec(line);
      if (field === "event") this.#type = value;
      if (field === "data") this.#data += `${value}
`;
      if (line) continue;
      const [type, data] = [this.#type || "message", this.#data];
      this.#type = this.#data = "";
      if (data) this.onEvent(type, data.slice(0, -1));
    }
  }
};

// src/client/waiting.js
function childOf(signal) {
  const controller = new AbortController();
  const abort = () => controller.abort(signal.reason);
  if (signal.aborted) abort();
  signal.addEventListener("abort", abort, { signal: controller.signal });
  return controller;
}
function untilAborted(signal) {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve());
  });
}
function startDeadline(signal, ms) {
  const controller = childOf(signal);
  let timer = 0;
  const extend = (more) => {
    clearTimeout(timer);
    timer = setTimeout(end, more);
  };
  const end = () => controller.abort();
  controller.signal.addEventListener("abort", () => clearTimeout(timer));
  if (!signal.aborted) extend(ms);
  return { signal: controller.signal, extend, end };
}
var sleep = (ms, signal) => untilAborted(startDeadline(signal, ms).signal);
async function unlessAborted(promise, signal) {
  if (!signal) return promise;
  const wait = childOf(signal);
  try {
    return await Promise.race([promise, untilAborted(wait.signal).then(() => {
      throw signal.reason;
    })]);
  } finally {
    wait.abort();
  }
}
function within(ms, promise) {
  const { signal, end } = startDeadline(new AbortController().signal, ms);
  return unlessAborted(promise, signal).finally(end);
}
var isHidden = () => globalThis.document?.hidden;
async function untilVisible(signal) {
  const wait = childOf(signal);
  if (!isHidden()) return;
  document.addEventListener("visibilitychange", () => isHidden() || wait.abort(), { signal: wait.signal });
  await untilAborted(wait.signal);
}
function runGuarded(fn) {
  try {
    return fn();
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}

// src/client/session.js
function newSession(token) {
  const life = new AbortController();
  return {
    token,
    life,
    signal: life.signal,
    naps: /* @__PURE__ */ new Set(),
    leaders: /* @__PURE__ */ new Map()
  };
}
async function nap({ naps }, ms, signal) {
  const deadline = startDeadline(signal, ms);
  naps.add(deadline);
  await untilAborted(deadline.signal);
  naps.delete(deadline);
}
function wake(session) {
  for (const { end } of session?.naps ?? []) end();
}
function beginTurn(session) {
  session.turn = childOf(session.signal);
  return session.turn.signal;
}
function endTurn(session) {
  session.turn?.abort();
  session.turn = null;
}
function unshare(session) {
  session.channel?.close();
  session.channel = session.locks = null;
}

// src/client/prices.js
var endpointsOf = (core) => core.usage?.endpoints ?? {};
function readCosts(core) {
  const costs = JSON.stringify(Object.entries(endpointsOf(core)).map(([name, { cost }]) => [name, cost]));
  if (costs !== core.costs) core.candidates.clear();
  core.costs = costs;
  return costs;
}
function priceOf(core, { route, endpoint = "" }) {
  const endpoints = endpointsOf(core);
  const names = endpoints[endpoint]?.cost ? [endpoint] : core.candidates.get(route) ?? Object.keys(endpoints);
  return names.length ? Math.min(...names.map((name) => endpoints[name]?.cost?.max ?? 1)) : 1;
}
function learnCharge(core, { route, costs }, charged, rest) {
  if (costs !== readCosts(core)) return;
  const endpoints = endpointsOf(core);
  learnEndpoints(core, route, (core.candidates.get(route) ?? Object.keys(endpoints)).filter((name) => {
    const { min, max } = endpoints[name]?.cost ?? { min: 1, max: 1 };
    return rest ? min === charged && max === charged + rest : min <= charged && charged <= max;
  }));
}
function learnEndpoints({ candidates }, route, names) {
  if (candidates.size > 100) candidates.clear();
  if (names.length) candidates.set(route, names);
  else candidates.delete(route);
}

// src/client/pending.js
function pendingHere(core) {
  readCosts(core);
  const calls = [...core.calls];
  return {
    count: calls.filter((call) => call.rest === void 0).length,
    units: calls.reduce((sum, call) => sum + (call.rest ?? priceOf(core, call)), 0)
  };
}
function pendingTotal(core) {
  const quantity = core.usage?.unit === "units" ? "units" : "count";
  return [pendingHere(core), ...core.otherCalls.values()].reduce((sum, calls) => sum + calls[quantity], 0);
}
function beginCall(core, route, endpoint) {
  const call = { route, endpoint, costs: readCosts(core) };
  core.calls.add(call);
  callsChanged(core);
  return call;
}
function awaitRest(core, call, rest) {
  call.rest = rest;
  call.since = Date.now();
  callsChanged(core);
}
function endWithNumbers(core, call) {
  if (core.usage?.in_flight === 0) return endCall(core, call);
  call.over = true;
  setTimeout(async () => {
    if (core.calls.has(call)) await read(core);
    endCall(core, call);
  }, core.timing.floor);
}
function numbersChanged(core, nothingHeld) {
  for (const call of core.calls) {
    const forgotten = nothingHeld && call.rest !== void 0 && Date.now() - (call.since ?? 0) > 5e3;
    if (call.over || forgotten) endCall(core, call);
  }
}
function endCall(core, call) {
  if (core.calls.delete(call)) callsChanged(core);
}
function setPendingElsewhere(core, id, pending) {
  const some = pending && (pending.count || pending.units);
  if (!some && !core.otherCalls.delete(id)) return;
  if (some) core.otherCalls.set(id, { ...pending, at: Date.now() });
  watchCalls(core);
  publish(core);
}
function callsChanged(core) {
  tell(core);
  watchCalls(core);
  publish(core);
}
function watchCalls(core) {
  const { calls, otherCalls, closed } = core;
  clearInterval(core.callsTimer);
  if (!calls.size && !otherCalls.size || closed.aborted) return;
  core.callsTimer = setInterval(() => {
    for (const [id, { at }] of otherCalls) {
      if (Date.now() - at > 9e4) otherCalls.delete(id);
    }
    callsChanged(core);
  }, 2e4);
}

// src/client/state.js
function takeNumbers(core, usage) {
  const before = core.usage;
  const accepted = acceptNumbers(core, usage);
  if (accepted && core.refused && admits(usage, core.refused.endpoint)) core.refused = null;
  if (accepted) queueMicrotask(() => numbersChanged(core, usage.in_flight === 0 && !usage.stale));
  publish(core);
  const warned = accepted && before ? newlyWarned(before, usage) : [];
  if (warned.length) dispatch(core, "usage-warning", { ...core.current, warned });
  return accepted;
}
function refuse(core, refusal, usage, session) {
  if (usage) learn(core, session, usage);
  core.refused = refusal;
  publish(core);
  if (core.current) dispatch(core, "usage-exceeded", { ...core.current, ...refusal });
}
function dismiss(core) {
  core.refused = null;
  publish(core);
}
function forgetNumbers(core) {
  dropFloor(core);
  core.usage = null;
  dismiss(core);
}
function setConnection(core, connection, problem = null, quietly = false) {
  if (core.connection === connection && core.problem === problem) return;
  core.connection = connection;
  core.problem = problem;
  dispatch(core, "connection", { connection, problem });
  if (!quietly) publish(core);
}
function publish(core) {
  if (core.closed.aborted) return;
  const { connection, current: before, refused, usage } = core;
  const state = core.current = usage && {
    ...usage,
    ...aboveFloor(core, usage),
    pending: pendingTotal(core),
    stale: usage.stale || connection === "offline",
    connection,
    refused
  };
  if (!state && !before) return;
  for (const fn of [...core.subscribers]) runGuarded(() => fn(state));
  if (state) dispatch(core, "usage", state);
}
function dispatch({ target }, type, detail) {
  runGuarded(() => {
    target.dispatchEvent(new CustomEvent(type, { detail }));
  });
}

// src/client/follower.js
async function follow(core, session, signal) {
  const { timing } = core;
  let polling = null;
  const startPolling = async () => {
    if (polling || signal.aborted) return;
    polling = childOf(signal);
    for (const own = polling.signal; !own.aborted; ) {
      await poll(core, session, own);
      await sleep(timing.poll * (1 + Math.random() / 5), own);
    }
  };
  const stopPolling = () => {
    polling?.abort();
    polling = null;
  };
  if (!session.streams) {
    startPolling();
    await untilAborted(signal);
  }
  let failures = 0;
  let expired = false;
  while (!signal.aborted) {
    const impatience = setTimeout(startPolling, timing.impatience);
    const end = await stream(core, session, signal, expired, () => {
      clearTimeout(impatience);
      stopPolling();
    });
    clearTimeout(impatience);
    if (signal.aborted) return;
    expired = end.reason === "token_expired";
    failures = end.good ? 0 : failures + 1;
    if (expired && end.good) continue;
    if (end.problem === "unauthorized" || end.problem === "token") {
      stopPolling();
      setConnection(core, "offline", end.problem);
      tell(core);
    } else if (!end.began || failures > 1) {
      startPolling();
    }
    await nap(session, Math.max(end.retryAfter * 1e3, backoff(core, failures)), signal);
  }
}
async function stream(core, session, signal, refresh, begun) {
  const { dead, firstEvent, settled } = core.timing;
  const limit = startDeadline(signal, firstEvent);
  let [began, reason, retryAfter, told] = [0, "", 0, false];
  let problem = null;
  const parser = new EventStreamParser((type, data) => {
    const event = JSON.parse(data);
    if (type === "end") reason = event.reason;
    if (type !== "usage" || !isUsage(event)) return;
    told = true;
    if (!began) {
      began = Date.now();
      begun();
      setConnection(core, "live", null, true);
    }
    learn(core, session, event);
  });
  try {
    const { response, session: answered } = await sendRequest(core, "usage/stream", limit.signal, { refresh });
    const { body, headers, ok } = response;
    const reader = ok && /^text\/event-stream/.test(headers.get("Content-Type") ?? "") && body?.getReader();
    if (!reader) {
      retryAfter = Math.min(600, Number(headers.get("Retry-After")) || 0);
      problem = "unavailable";
    }
    while (reader && answered === session && !reason) {
      const { done, value } = await reader.read();
      if (done) break;
      told = false;
      parser.push(value);
      if (began) limit.extend(dead);
      if (!told) tell(core);
    }
  } catch (error) {
    problem = problemOf(error);
  }
  limit.end();
  const lived = began ? Date.now() - began : -1;
  return { began, reason, problem, retryAfter, good: lived >= settled || reason !== "" && lived >= 1e3 };
}
async function poll(core, session, signal) {
  const problem = await read(core, signal);
  if (signal.aborted) return;
  const back = !problem && core.connection === "offline";
  setConnection(core, problem ? "offline" : "polling", problem);
  tell(core);
  countLeaders(core, session);
  if (back) wake(session);
}

// src/client/memory.js
function withStorage({ base }, use) {
  try {
    return use(sessionStorage, `metergate-usage ${base.href}`);
  } catch {
    return null;
  }
}
function keepNumbers(core) {
  const { session, usage } = core;
  const claims = session?.identity && identityClaims(session.identity, session.token);
  if (usage && claims) withStorage(core, (storage, key) => storage.setItem(key, JSON.stringify({ claims, usage })));
}
function keptNumbers(core, token) {
  const usage = withStorage(core, (storage, key) => {
    const { claims, usage: usage2 } = JSON.parse(storage.getItem(key) ?? "");
    return isUsage(usage2) && claims && claims === identityClaims(usage2, token) && usage2;
  });
  if (!usage && token) dropKeptNumbers(core);
  return usage;
}
function dropKeptNumbers(core) {
  withStorage(core, (storage, key) => storage.removeItem(key));
}

// src/client/tabs.js
async function start(core) {
  setConnection(core, "idle");
  const failed = () => core.session || core.closed.aborted || setConnection(core, "offline", "token");
  for (let failures = 0; !core.session && !core.closed.aborted; failures++) {
    const answer = askToken(core, false);
    within(core.timing.firstEvent, answer).catch(failed);
    await answer.catch(() => sleep(backoff(core, failures), core.closed));
  }
}
function endSession(core, moved) {
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
function useToken(core, token) {
  if (core.closed.aborted || !core.follows) return;
  const before = core.session ?? core.lastSession;
  const identity = before?.identity;
  const same = before && (before.token === token || identity && isRefreshOf(identity, before.token, token));
  if (core.session && same) {
    core.session.token = token;
    return;
  }
  endSession(core);
  if (before && !same) forgetUser(core, before.token);
  begin(core, token, same ? identity : null);
}
function forgetUser(core, known = true) {
  if (known) dropKeptNumbers(core);
  core.calls.clear();
  forgetNumbers(core);
}
function begin(core, token, identity) {
  const session = core.session = newSession(token);
  if (identity) share(core, session, identity);
  else identify(core, session);
}
async function identify(core, session) {
  const { signal } = session;
  const kept = keptNumbers(core, session.token);
  const showKept = () => {
    if (!kept || signal.aborted || core.usage) return;
    core.usage = { ...kept, stale: true };
    publish(core);
  };
  if (kept) sleep(core.timing.impatience, signal).then(showKept);
  for (let first = session; ; first = void 0) {
    await untilVisible(signal);
    if (signal.aborted || session.identity) return;
    const problem = await read(core, signal, first);
    if (signal.aborted || session.identity) return;
    if (problem !== "unauthorized") showKept();
    if (problem) setConnection(core, "offline", problem);
    await nap(session, backoff(core, ++core.failures), signal);
  }
}
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
  } catch {
  }
  tell(core, { hello: true });
  wake(session);
  takeTurns(core, session);
}
function learn(core, session, usage) {
  if (session !== core.session) return;
  if (session && !session.identity) share(core, session, usage);
  if (session?.identity && !sameUser(session.identity, usage)) {
    forgetUser(core);
    move(core, session, usage);
  }
  const accepted = takeNumbers(core, usage);
  if (accepted && !usage.stale && core.session?.identity && core.session.identity.plan !== usage.plan) {
    move(core, core.session, usage);
  }
  tell(core);
}
function signedOut(core, session) {
  if (session !== core.session || !session?.identity) return;
  forgetUser(core);
  move(core, session, null);
  setConnection(core, "offline", "unauthorized");
}
function move(core, session, identity) {
  endSession(core, true);
  begin(core, session.token, identity);
}
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
      setConnection(core, "idle");
      tell(core, { lead: true });
    };
    watchLeader(core, session);
    try {
      if (locks) {
        const options = session.steal ? { steal: true } : { signal };
        session.steal = false;
        await locks.request(name, options, lead);
      } else {
        if (session.channel) await sleep(100, signal);
        await lead();
      }
    } catch (error) {
      if (error?.name !== "AbortError") unshare(session);
    } finally {
      endTurn(session);
      session.leading = false;
    }
  }
}
function mayStream({ id, poll: poll2 }, { channel, leaders, locks }) {
  const older = [...leaders].filter(([other, heard]) => other < id && Date.now() - heard < 45e3);
  return !poll2 && Boolean(locks || !channel || older.length < 2);
}
function countLeaders(core, session) {
  if (session.leading && session.streams !== mayStream(core, session)) endTurn(session);
}
function checkUser(core) {
  if (core.getToken) askToken(core, false).catch(() => {
  });
  else if (core.session?.identity) read(core);
}
function visibilityChanged(core) {
  const { session } = core;
  if (isHidden()) pauseLater(core, core.timing.grace);
  else if (session) {
    wake(session);
    watchLeader(core, session);
    checkUser(core);
  }
}
function pauseLater(core, ms) {
  clearTimeout(core.graceTimer);
  core.graceTimer = setTimeout(pauseUnlessWatched, ms, core);
}
async function pauseUnlessWatched(core) {
  const { session } = core;
  if (!session?.turn || !isHidden()) return;
  if (session.leading && session.locks && core.connection === "live") {
    const { pending = [] } = await session.locks.query();
    if (!isHidden() || session.signal.aborted) return;
    if (pending.some((lock) => lock.name === session.name)) {
      pauseLater(core, 6e4);
      return;
    }
  }
  endTurn(session);
  tell(core, { lead: false, paused: true });
}
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
function tell(core, more) {
  const { connection, id, problem, session, usage } = core;
  session?.channel?.postMessage({ id, lead: session.leading, usage, connection, problem, pending: pendingHere(core), ...more });
}
function hear(core, session, { id, lead, usage, connection, problem, pending, hello, paused, moved }) {
  if (session !== core.session || !session.identity) return;
  if (usage && !hello && sameUser(usage, session.identity)) takeNumbers(core, usage);
  setPendingElsewhere(core, id, pending);
  if (lead && connection !== "idle") session.leaders.set(id, Date.now());
  else session.leaders.delete(id);
  countLeaders(core, session);
  if (lead) {
    watchLeader(core, session);
    if (!session.leading) setConnection(core, connection, problem);
  }
  if (hello && (session.leading || core.calls.size)) setTimeout(tell, 0, core);
  if (paused) pauseUnlessWatched(core);
  if (moved) checkUser(core);
}

// src/client/requests.js
var failure = (problem, text = problem) => Object.assign(new Error(text), { problem });
var problemOf = (error) => error?.problem ?? "unreachable";
async function askToken(core, refresh) {
  const asked = ++core.asked;
  const token = await core.getToken?.({ refresh }) || null;
  if (asked > core.answered) {
    core.answered = asked;
    useToken(core, token);
  }
  return { token, session: core.session?.token === token ? core.session : null };
}
async function renewToken(core, refused) {
  const { session } = core;
  if (session && session.token !== refused) return { token: session.token, session };
  core.renewal ??= within(core.timing.firstEvent, askToken(core, true)).finally(() => {
    core.renewal = null;
  });
  return core.renewal;
}
async function sendRequest(core, path, signal, { refresh, first } = {}) {
  const { base, credentials, getToken, send } = core;
  const patiently = (answer) => unlessAborted(answer.catch(() => {
    throw failure("token");
  }), signal);
  let { token, session } = first ? { token: first.token, session: first } : await patiently(refresh ? renewToken(core, core.session?.token) : askToken(core, false));
  for (let again = !!getToken; ; again = false) {
    if (getToken && !token) break;
    signal.throwIfAborted();
    const response = await send(new URL(path, base), {
      ...token && { headers: { Authorization: `Bearer ${token}` } },
      ...credentials && { credentials },
      signal,
      cache: "no-store"
    });
    if (response.status !== 401) return { response, session };
    response.body?.cancel();
    if (!again) break;
    const refused = token;
    ({ token, session } = await patiently(renewToken(core, refused)));
    if (token === refused) break;
  }
  if (!getToken) signedOut(core, session);
  throw failure("unauthorized");
}
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
async function read(core, signal = core.closed, first) {
  if (signal.aborted) return "unreachable";
  try {
    const { answer, session } = await ask(core, "usage", signal, first);
    if (!isUsage(answer)) return "unavailable";
    if (!signal.aborted) learn(core, session, answer);
    return null;
  } catch (error) {
    return problemOf(error);
  }
}
function readSoon(core) {
  if (core.connection === "live") return;
  clearTimeout(core.readTimer);
  core.readTimer = setTimeout(read, 50, core);
}
async function readHistory(core, days) {
  const { answer, status } = await ask(core, `usage/history${days === void 0 ? "" : `?days=${days}`}`, core.closed);
  if (answer?.days) return answer;
  throw failure(status === 404 && answer ? "off" : "unavailable", answer?.detail);
}

// src/client/numbers.js
function isUsage(value) {
  return Boolean(value?.as_of && value.period);
}
function admits(usage, endpoint) {
  return usage.allowed && (usage.endpoints[endpoint ?? ""]?.allowed ?? true);
}
function statusOf(usage, limit) {
  if (!limit) return "ok";
  if (!limit.endpoint && limit.limit === usage.limit && limit.used === usage.used) return usage.status;
  if (limit.used >= limit.limit) return "blocked";
  return limit.used * 100 >= limit.limit * 80 ? "warning" : "ok";
}
function newlyWarned(before, usage) {
  return usage.limits.filter((limit) => statusOf(usage, limit) === "warning" && statusOf(before, before.limits.find(({ name }) => name === limit.name)) === "ok").map(({ name }) => name);
}
function acceptNumbers(core, usage) {
  const known = core.usage;
  if (known && isOlder(core, known, usage)) {
    if (usage.stale && !known.stale) core.usage = { ...known, stale: true };
    return false;
  }
  const forecast = known?.plan === usage.plan && "exhausts_at" in known && { exhausts_at: known.exhausts_at };
  core.usage = { ...forecast, ...usage };
  core.heldBackSince = 0;
  if (core.floor && usage.used >= core.floor.used) dropFloor(core);
  return true;
}
function isOlder(core, known, usage) {
  if (known.stale && !usage.stale) return false;
  const age = Date.parse(known.as_of) - Date.parse(usage.as_of);
  const older = age > 0 || age === 0 && usage.used < known.used;
  if (usage.stale) return older || usage.used < known.used && usage.period.start === known.period.start;
  if (!older) return false;
  core.heldBackSince ||= Date.now();
  return Date.now() - core.heldBackSince < 3e4;
}
function raiseFloor(core, used) {
  const { usage } = core;
  if (!usage || used <= usage.used || used <= (core.floor?.used ?? 0)) return;
  dropFloor(core);
  const floor = core.floor = { used, timer: 0 };
  floor.timer = setTimeout(async () => {
    await read(core);
    if (core.floor === floor) core.floor = null;
    publish(core);
  }, core.timing.floor);
}
function dropFloor(core) {
  clearTimeout(core.floor?.timer);
  core.floor = null;
}
function aboveFloor({ floor }, usage) {
  if (!floor) return {};
  const { used } = floor;
  const { allowed, limit, status } = usage;
  if (limit === null) return { used };
  const blocked = used >= limit;
  return {
    used,
    remaining: Math.max(0, limit - used),
    percent: limit ? Math.floor(used * 100 / limit) : 100,
    status: blocked ? "blocked" : status,
    // If calls are allowed although the limit is reached, the plan only observes.
    allowed: allowed && (!blocked || status === "blocked")
  };
}

// src/client/fetch.js
function copyToRepeat(input, request, init) {
  if (!request || init?.body) return init?.duplex ? null : input;
  const inMemory = !request.body || /json|text|urlencoded/.test(request.headers.get("Content-Type") ?? "");
  return inMemory ? request.clone() : null;
}
async function fetchMetered(core, input, init) {
  const { credentials, getToken, send } = core;
  const request = input?.headers ? input : null;
  const given = (name) => init?.[name] ?? request?.[name];
  const headers = new Headers(given("headers"));
  let url;
  try {
    url = new URL(request?.url ?? input, pageURL());
  } catch {
  }
  if (!url || !isOfGateway(core, url) || headers.has("Authorization")) return send(input, init);
  const route = `${(given("method") ?? "GET").toUpperCase()} ${url.pathname}`;
  const counts = !/^usage(\/|$)/.test(url.pathname.slice(core.base.pathname.length)) && !core.unmetered.has(route) && !core.closed.aborted;
  const signal = given("signal");
  const sent_at = Date.now();
  let { token, session } = await unlessAborted(askToken(core, false), signal);
  const sendWithToken = (from) => {
    if (token) headers.set("Authorization", `Bearer ${token}`);
    const unchosen = credentials && (!request || request.credentials === "same-origin");
    return send(from, { ...unchosen && { credentials }, ...init, headers });
  };
  const call = counts && session ? beginCall(core, route, init?.usageEndpoint) : null;
  try {
    const again = token && getToken ? copyToRepeat(input, request, init) : null;
    let response = await sendWithToken(input);
    if (response.status === 401 && again) {
      const another = await unlessAborted(renewToken(core, token), signal).catch(() => null);
      signal?.throwIfAborted();
      const known = session?.identity;
      if (another?.token && another.token !== token && (known ? sameUser(known, another.session?.identity) : isRefreshOf(null, token, another.token))) {
        response.body?.cancel();
        ({ token, session } = another);
        response = await sendWithToken(again);
      }
    }
    return runGuarded(() => readResponse(core, route, call, response, session, sent_at)) ?? response;
  } finally {
    if (call && call.rest === void 0) endCall(core, call);
  }
}
function isOfGateway({ base }, url) {
  return url.origin === base.origin && `${url.pathname}/`.startsWith(base.pathname);
}
function readResponse(core, route, call, response, session, sent_at) {
  const ours = (!response.redirected || isOfGateway(core, new URL(response.url))) && session === core.session;
  const header = (name) => ours && response.headers.get(name) || "";
  const used = parseInt(header("X-Usage"));
  if (used >= 0) core.unmetered.delete(route);
  if (!response.ok) {
    if (response.status === 401 && !core.getToken) read(core);
    if (/^application\/problem\+json/.test(header("Content-Type"))) {
      readRefusal(core, route, response.clone(), session, sent_at).catch(() => {
      });
    }
    return response;
  }
  if (used >= 0 && core.getToken) raiseFloor(core, used);
  if (!(used >= 0)) core.unmetered.add(route);
  readSoon(core);
  const cost = parseInt(header("X-Usage-Cost"));
  const rest = parseInt(header("X-Usage-Pending")) || 0;
  if (call && cost >= 0) learnCharge(core, call, cost, rest);
  if (!call || !rest || !response.body) return response;
  awaitRest(core, call, rest);
  return noticeEnd(response, () => {
    endWithNumbers(core, call);
    readSoon(core);
  });
}
async function readRefusal(core, route, response, session, sent_at) {
  const { detail = "", endpoint = null, reason = null, type, upgrade_url = null, usage, "violated-policies": violated = [] } = await response.json();
  if (endpoint) learnEndpoints(core, route, [endpoint]);
  const refused = reason === "not_in_plan" || /#quota-exceeded$/.test(type);
  const named = isUsage(usage) ? usage : null;
  if (!refused || session !== core.session) return;
  const ofAnother = () => named && core.usage && !sameUser(named, core.usage);
  if (ofAnother()) await read(core);
  if (ofAnother()) return;
  refuse(core, {
    endpoint,
    violated,
    reason,
    detail,
    upgrade_url,
    sent_at,
    retry_after: Number(response.headers.get("Retry-After")) || null
  }, named, core.session);
}

// src/client/usage-client.js
var createUsageClient = (options) => new UsageClient(options);
var UsageClient = class extends EventTarget {
  #core;
  constructor({ baseUrl, getToken, credentials, fetch = globalThis.fetch, poll: poll2 = false, timing } = {}) {
    super();
    const core = this.#core = newCore(this, gatewayBase(baseUrl), { getToken, credentials, poll: poll2, send: fetch.bind(globalThis), timing });
    if (!core.follows) return;
    const on = (target, type, handle) => target?.addEventListener?.(type, handle, { signal: core.closed });
    on(globalThis.document, "visibilitychange", () => visibilityChanged(core));
    on(globalThis, "online", () => wake(core.session));
    on(globalThis, "pagehide", () => {
      keepNumbers(core);
      endSession(core);
    });
    on(globalThis, "pageshow", (e) => e.persisted && start(core).then(() => checkUser(core)));
    queueMicrotask(() => start(core));
  }
  get current() {
    return this.#core.current;
  }
  get connection() {
    return this.#core.connection;
  }
  get problem() {
    return this.#core.problem;
  }
  get baseUrl() {
    return this.#core.base.href;
  }
  subscribe = (fn) => {
    const { current, subscribers } = this.#core;
    const subscriber = (state) => fn(state);
    subscribers.add(subscriber);
    if (current) runGuarded(() => subscriber(current));
    return () => {
      subscribers.delete(subscriber);
    };
  };
  refresh = async () => {
    await read(this.#core);
    return this.current;
  };
  close = () => {
    const core = this.#core;
    if (core.session) dropKeptNumbers(core);
    endSession(core);
    core.life.abort();
    clearInterval(core.callsTimer);
  };
  canSend = (endpoint) => !this.current || admits(this.current, endpoint);
  history = (days) => readHistory(this.#core, days);
  promptUpgrade = (endpoint = null) => {
    if (this.current) dispatch(this.#core, "upgrade-prompt", { ...this.current, endpoint });
  };
  dismiss = () => dismiss(this.#core);
  fetch = (input, init) => fetchMetered(this.#core, input, init);
};
export {
  EventStreamParser,
  UsageClient,
  createUsageClient
};
