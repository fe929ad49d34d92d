// What the gateway tells by itself: GET /admin/events. A tab that nobody has looked at for a minute lets
// go of it, because a browser has few connections to one address, and a gateway few streams.
import { events, Problem } from './api.js';

const silence = 40_000; // ms without even a comment, which comes every 15 s
const unseen = 60_000; // ms out of sight until it lets go
const firstWait = 1000, longestWait = 30_000; // ms before it connects again

export class Live extends EventTarget {
  /** "idle", "live" or "off". */
  state = 'idle';

  /** When it was last live, while it is not. */
  since = null;

  why = '';

  /** The last overview that has come. There is a new one only when something has changed. */
  overview = null;

  #running = null;
  #wake = () => {};

  constructor() {
    super();
    let asleep = false, timer;
    document.addEventListener('visibilitychange', () => {
      clearTimeout(timer);
      if (document.visibilityState === 'hidden') {
        timer = setTimeout(() => {
          asleep = this.#running !== null;
          this.stop();
        }, unseen);
      } else if (asleep && !this.#running) {
        asleep = false;
        this.start();
      } else {
        this.#wake();
      }
    });
    addEventListener('online', () => this.#wake());
  }

  start() {
    this.stop();
    this.#running = new AbortController();
    this.#follow(this.#running.signal);
  }

  stop() {
    this.#running?.abort();
    this.#running = null;
    this.#set('idle');
    this.since = null;
  }

  #set(state, why = '') {
    if (state === 'off') this.since ??= new Date();
    if (state === 'live') this.since = null;
    if (this.state === state && this.why === why) return;
    Object.assign(this, { state, why });
    this.dispatchEvent(new Event('state'));
  }

  async #follow(signal) {
    let wait = firstWait;
    while (!signal.aborted) {
      let why = 'the gateway has ended the connection';
      try {
        await this.#once(signal, () => { wait = firstWait; });
      } catch (error) {
        if (signal.aborted) return;
        why = error instanceof Problem ? error.message : 'nothing has come for 40 seconds';
      }
      if (signal.aborted) return;
      this.#set('off', why);
      await this.#pause(wait * (0.75 + Math.random() / 2), signal);
      wait = Math.min(wait * 2, longestWait);
    }
  }

  async #once(signal, onLive) {
    const own = new AbortController();
    const abort = () => own.abort();
    let watch;
    const onAlive = () => {
      clearTimeout(watch);
      watch = setTimeout(abort, silence);
    };
    signal.addEventListener('abort', abort);
    onAlive();
    try {
      for await (const { event, data } of events('events', { signal: own.signal, onAlive })) {
        onLive();
        this.#set('live');
        if (event !== 'overview') continue;
        this.overview = data;
        this.dispatchEvent(new CustomEvent('overview', { detail: data }));
      }
    } finally {
      clearTimeout(watch);
      signal.removeEventListener('abort', abort);
    }
  }

  /** Waits, but not while there is reason to try at once. */
  #pause(ms, signal) {
    return new Promise((done) => {
      const timer = setTimeout(done, ms);
      this.#wake = () => { clearTimeout(timer); done(); };
      signal.addEventListener('abort', this.#wake, { once: true });
    });
  }
}
