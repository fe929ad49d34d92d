import { EventStreamParser } from './event-stream.js';
import { isUsage } from './numbers.js';
import { problemOf, read, sendRequest } from './requests.js';
import { setConnection } from './state.js';
import { countLeaders, learn, tell } from './tabs.js';
import { backoff } from './timing.js';
import { childOf, sleep, startDeadline, untilAborted } from './waiting.js';

/** @typedef {import('./core.js').Core} Core */
/** @typedef {import('./session.js').Session} Session */

/**
 * Follows the usage for the tab that leads: by one stream after the other until the turn ends, or by
 * polling where there is none.
 * @param {Core} core
 * @param {Session} session
 * @param {AbortSignal} signal ends the turn
 */
export async function follow(core, session, signal) {
  const { timing } = core;
  /** @type {AbortController | null} */ let polling = null;
  const poller = {
    async start() {
      if (polling || signal.aborted) return;
      polling = childOf(signal);
      for (const own = polling.signal; !own.aborted;) {
        await poll(core, session, own);
        await sleep(timing.poll * (0.9 + Math.random() / 5), own); // spread tabs and users
      }
    },
    stop() {
      polling?.abort();
      polling = null;
    },
  };
  if (!session.streams) {
    poller.start();
    await untilAborted(signal);
  }
  let failures = 0;
  let refresh = false;
  while (!signal.aborted) {
    const end = await stream(core, session, signal, poller, refresh);
    if (signal.aborted) return;
    refresh = end.reason === 'token_expired';
    failures = end.good ? 0 : failures + 1;
    if (refresh && end.good) continue;
    if (end.problem === 'unauthorized' || end.problem === 'token') {
      poller.stop(); // it would be refused as well
      setConnection(core, 'offline', end.problem);
      tell(core);
    } else if (!end.started || failures > 1) {
      poller.start();
    }
    // The numbers are out of date only once a retry fails, not as soon as a stream ends.
    await session.nap(Math.max(end.retryAfter, backoff(timing, failures)), signal);
  }
}

/**
 * Follows one stream to its end.
 * @param {Core} core
 * @param {Session} session
 * @param {AbortSignal} signal
 * @param {{ start: () => void, stop: () => void }} poller
 * @param {boolean} refresh ask for a new token
 */
async function stream(core, session, signal, poller, refresh) {
  const { timing } = core;
  const end = { started: 0, good: false, reason: '', problem: /** @type {import('../../client.d.ts').ConnectionProblem} */ (null), retryAfter: 0 };
  const limit = startDeadline(signal, timing.firstEvent);
  const impatience = setTimeout(poller.start, timing.impatience);
  let told = false;
  const parser = new EventStreamParser((type, data) => {
    const event = JSON.parse(data);
    if (type === 'end') end.reason = event.reason;
    if (type !== 'usage' || !isUsage(event)) return;
    told = true;
    if (!end.started) {
      end.started = Date.now();
      clearTimeout(impatience);
      poller.stop();
      setConnection(core, 'live', null, true);
    }
    learn(core, session, event, 'stream');
  });
  try {
    const { response, session: answered } = await sendRequest(core, 'usage/stream', limit.signal, { accept: 'text/event-stream', refresh });
    if (answered !== session) return end; // for a token that is not the last one any more
    if (!response.ok || !response.body || !response.headers.get('Content-Type')?.startsWith('text/event-stream')) {
      end.retryAfter = Math.min(600, Number(response.headers.get('Retry-After')) || 0) * 1000;
      end.problem = 'unavailable';
      return end;
    }
    const reader = response.body.getReader();
    while (!end.reason) {
      const { done, value } = await reader.read();
      if (done) break;
      told = false;
      parser.push(value);
      if (end.started) limit.extend(timing.dead);
      if (!told) tell(core); // shows that this tab is alive
    }
  } catch (error) {
    end.problem = problemOf(error);
  } finally {
    clearTimeout(impatience);
    limit.end();
    const lived = Date.now() - (end.started || Infinity);
    end.good = lived >= timing.settled || (end.reason !== '' && lived >= 1_000);
  }
  return end;
}

/** @param {Core} core @param {Session} session @param {AbortSignal} signal */
async function poll(core, session, signal) {
  const problem = await read(core, signal);
  if (signal.aborted) return;
  const back = !problem && core.connection === 'offline';
  setConnection(core, problem ? 'offline' : 'polling', problem);
  tell(core);
  countLeaders(core, session);
  if (back) session.wake(); // the gateway answers again, so a stream may work as well
}
