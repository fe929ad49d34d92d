import { sleep } from './waiting.js';

/** Repeats a job while it is started. */
export class Poller {
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
      await sleep(this.ms * (0.9 + Math.random() / 5), running.signal); // spread tabs and users
    }
  }

  stop() {
    this.#running?.abort();
    this.#running = null;
  }
}
