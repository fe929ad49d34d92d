import { EventStreamParser } from './event-stream.js';
import { isUsage } from './numbers.js';
import { Poller } from './poller.js';
import { problemOf } from './requests.js';
import { backoff } from './timing.js';
import { startDeadline } from './waiting.js';

/** @typedef {import('../../client.d.ts').ConnectionProblem} ConnectionProblem */
/** @typedef {import('./session.js').Session} Session */

/** Follows the usage for the tab that leads: by a stream, or by polling where there is none. */
export class Follower {
  #core;

  /** @param {import('./core.js').Core} core */
  constructor(core) {
    this.#core = core;
  }

  /**
   * Opens one stream after the other until the turn ends.
   * @param {Session} session
   * @param {AbortSignal} signal ends the turn
   */
  async follow(session, signal) {
    const { state, tabs, timing } = this.#core;
    const poller = new Poller((pollSignal) => this.#poll(session, pollSignal), signal, timing.poll);
    let failures = 0;
    let refresh = false;
    if (!session.streams) {
      poller.start();
      await new Promise((resolve) => { signal.addEventListener('abort', resolve); });
    }
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
        poller.stop(); // it would be refused as well
        state.setConnection('offline', end.problem);
        session.post(tabs.report('offline'));
      } else if (!end.started || failures > 1) {
        poller.start();
      }
      // The numbers are out of date only once a retry fails, not as soon as a stream ends.
      await session.nap(Math.max(end.retryAfter, backoff(timing, failures)), signal);
    }
  }

  /**
   * Follows one stream to its end.
   * @param {Session} session
   * @param {AbortSignal} signal
   * @param {Poller} poller
   * @param {boolean} refresh ask for a new token
   */
  async #stream(session, signal, poller, refresh) {
    const { requests, state, tabs, timing } = this.#core;
    const end = { started: false, good: false, reason: '', problem: /** @type {ConnectionProblem} */ (null), retryAfter: 0 };
    const limit = startDeadline(signal, timing.firstEvent);
    const impatience = setTimeout(() => poller.start(), timing.impatience);
    let began = 0;
    let told = false;
    try {
      const { response, session: answered } = await requests.send('usage/stream', limit.signal, { accept: 'text/event-stream', refresh });
      if (answered !== session) return end; // for a token that is not the last one any more
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
            state.goLive();
          }
          tabs.learn(session, usage, 'stream');
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
        if (end.started) limit.extend(timing.dead);
        if (!told) session.post(tabs.report(state.connection)); // shows that this tab is alive
      }
    } catch (error) {
      end.problem = problemOf(error);
    } finally {
      clearTimeout(impatience);
      limit.end();
      const lived = began ? Date.now() - began : 0;
      end.good = lived >= timing.settled || (end.reason !== '' && lived >= 1_000);
    }
    return end;
  }

  /** @param {Session} session @param {AbortSignal} signal */
  async #poll(session, signal) {
    const { requests, state, tabs } = this.#core;
    const problem = await requests.read(signal);
    if (signal.aborted) return;
    const back = !problem && state.connection === 'offline';
    state.setConnection(problem ? 'offline' : 'polling', problem);
    session.post(tabs.report(state.connection));
    tabs.countLeaders(session);
    if (back) session.wake(); // the gateway answers again, so a stream may work as well
  }
}
