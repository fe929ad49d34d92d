import { EventStreamParser } from './event-stream.js';
import { isUsage } from './numbers.js';
import { problemOf, read, sendRequest } from './requests.js';
import { nap, wake } from './session.js';
import { setConnection } from './state.js';
import { countLeaders, learn, tell } from './tabs.js';
import { backoff } from './timing.js';
import { childOf, sleep, startDeadline, untilAborted } from './waiting.js';

/** @typedef {import('./core.js').Core} Core */
/** @typedef {import('./session.js').Session} Session */

/**
 * Follows the usage for the tab that leads: by one stream after the other, until the turn ends. Where no
 * stream can be opened, it polls.
 * @param {Core} core
 * @param {Session} session
 * @param {AbortSignal} signal ends the turn
 */
export async function follow(core, session, signal) {
  const { timing } = core;
  /** @type {AbortController | null} */ let polling = null;
  const startPolling = async () => {
    if (polling || signal.aborted) return;
    polling = childOf(signal);
    for (const own = polling.signal; !own.aborted;) {
      await poll(core, session, own);
      await sleep(timing.poll * (1 + Math.random() / 5), own); // spread tabs and users
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
    expired = end.reason === 'token_expired';
    failures = end.good ? 0 : failures + 1;
    if (expired && end.good) continue;
    if (end.problem === 'unauthorized' || end.problem === 'token') {
      stopPolling(); // it would be refused as well
      setConnection(core, 'offline', end.problem);
      tell(core);
    } else if (!end.began || failures > 1) {
      startPolling();
    }
    // The numbers are out of date only once a retry fails, not as soon as a stream ends.
    await nap(session, Math.max(end.retryAfter * 1000, backoff(core, failures)), signal);
  }
}

/**
 * Follows one stream to its end.
 * @param {Core} core
 * @param {Session} session
 * @param {AbortSignal} signal
 * @param {boolean} refresh ask for a new token
 * @param {() => void} begun is called with its first event
 */
async function stream(core, session, signal, refresh, begun) {
  const { dead, firstEvent, settled } = core.timing;
  const limit = startDeadline(signal, firstEvent);
  let [began, reason, retryAfter, told] = [0, '', 0, false];
  /** @type {import('../../client.d.ts').ConnectionProblem} */ let problem = null;
  const parser = new EventStreamParser((type, data) => {
    const event = JSON.parse(data);
    if (type === 'end') reason = event.reason;
    if (type !== 'usage' || !isUsage(event)) return;
    told = true;
    if (!began) {
      began = Date.now();
      begun();
      setConnection(core, 'live', null, true);
    }
    learn(core, session, event);
  });
  try {
    const { response, session: answered } = await sendRequest(core, 'usage/stream', limit.signal, { refresh });
    const { body, headers, ok } = response;
    const reader = ok && /^text\/event-stream/.test(headers.get('Content-Type') ?? '') && body?.getReader();
    if (!reader) {
      retryAfter = Math.min(600, Number(headers.get('Retry-After')) || 0);
      problem = 'unavailable';
    }
    // Not a stream for a token that is not the last one any more.
    while (reader && answered === session && !reason) {
      const { done, value } = await reader.read();
      if (done) break;
      told = false;
      parser.push(value);
      if (began) limit.extend(dead);
      if (!told) tell(core); // shows that this tab is alive
    }
  } catch (error) {
    problem = problemOf(error);
  }
  limit.end();
  const lived = began ? Date.now() - began : -1;
  return { began, reason, problem, retryAfter, good: lived >= settled || (reason !== '' && lived >= 1_000) };
}

/** @param {Core} core @param {Session} session @param {AbortSignal} signal */
async function poll(core, session, signal) {
  const problem = await read(core, signal);
  if (signal.aborted) return;
  const back = !problem && core.connection === 'offline';
  setConnection(core, problem ? 'offline' : 'polling', problem);
  tell(core);
  countLeaders(core, session);
  if (back) wake(session); // the gateway answers again, so a stream may work as well
}
