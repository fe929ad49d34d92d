// Helpers for waiting that can be aborted.

/**
 * Aborts the controller when the signal is aborted.
 * @param {AbortSignal} signal
 * @param {AbortController} controller
 * @returns {() => void} stops relaying
 */
export function relayAbort(signal, controller) {
  const abort = () => controller.abort(signal.reason);
  if (signal.aborted) abort();
  signal.addEventListener('abort', abort);
  return () => signal.removeEventListener('abort', abort);
}

/**
 * Makes a signal that aborts with the given one, or by itself after some time.
 * @param {AbortSignal} signal
 * @param {number} ms
 */
export function startDeadline(signal, ms) {
  const controller = new AbortController();
  const stopRelaying = relayAbort(signal, controller);
  let timer = setTimeout(() => controller.abort(), ms);
  return {
    signal: controller.signal,
    /** @param {number} more milliseconds from now */
    extend(more) {
      clearTimeout(timer);
      timer = setTimeout(() => controller.abort(), more);
    },
    /** Also closes what is still being received. */
    end() {
      clearTimeout(timer);
      stopRelaying();
      controller.abort();
    },
  };
}

/**
 * The promise, unless the signal is aborted first: then it rejects with the signal's reason.
 * @template T
 * @param {Promise<T>} promise
 * @param {AbortSignal | null} [signal]
 * @returns {Promise<T>}
 */
export function unlessAborted(promise, signal) {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}

/**
 * @param {number} ms
 * @param {AbortSignal} signal ends the sleep early
 */
export function sleep(ms, signal) {
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

/**
 * Waits until the tab is visible. A worker always is.
 * @param {AbortSignal} signal ends the wait early
 */
export function untilVisible(signal) {
  const { document } = globalThis;
  return /** @type {Promise<void>} */ (new Promise((resolve) => {
    const check = () => {
      if (document?.hidden && !signal.aborted) return;
      document?.removeEventListener('visibilitychange', check);
      signal.removeEventListener('abort', check);
      resolve();
    };
    document?.addEventListener('visibilitychange', check);
    signal.addEventListener('abort', check);
    check();
  }));
}
