// Helpers for waiting that can be aborted.

/**
 * Makes a controller that is aborted with the signal. Once it is aborted, the signal knows it no more.
 * @param {AbortSignal} signal
 */
export function childOf(signal) {
  const controller = new AbortController();
  const abort = () => controller.abort(signal.reason);
  if (signal.aborted) abort();
  signal.addEventListener('abort', abort, { signal: controller.signal });
  return controller;
}

/** @param {AbortSignal} signal */
export function untilAborted(signal) {
  return /** @type {Promise<void>} */ (new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener('abort', () => resolve());
  }));
}

/**
 * Makes a signal that is aborted with the given one, or by itself after some time.
 * @param {AbortSignal} signal
 * @param {number} ms
 */
export function startDeadline(signal, ms) {
  const controller = childOf(signal);
  let timer = 0;
  /** Begins again. */
  const extend = (/** @type {number} */ more) => {
    clearTimeout(timer);
    timer = setTimeout(end, more);
  };
  /** Also closes what is still being received. */
  const end = () => controller.abort();
  controller.signal.addEventListener('abort', () => clearTimeout(timer));
  if (!signal.aborted) extend(ms);
  return { signal: controller.signal, extend, end };
}

/**
 * @param {number} ms
 * @param {AbortSignal} signal ends the sleep early
 */
export const sleep = (ms, signal) => untilAborted(startDeadline(signal, ms).signal);

/**
 * The promise, unless the signal is aborted first: then it rejects with the signal's reason.
 * @template T
 * @param {Promise<T>} promise
 * @param {AbortSignal | null} [signal]
 * @returns {Promise<T>}
 */
export async function unlessAborted(promise, signal) {
  if (!signal) return promise;
  const wait = childOf(signal);
  try {
    return await Promise.race([promise, untilAborted(wait.signal).then(() => { throw signal.reason; })]);
  } finally {
    wait.abort();
  }
}

/**
 * The promise, unless it takes too long: then it rejects.
 * @template T
 * @param {number} ms
 * @param {Promise<T>} promise
 */
export function within(ms, promise) {
  const { signal, end } = startDeadline(new AbortController().signal, ms);
  return unlessAborted(promise, signal).finally(end);
}

export const isHidden = () => globalThis.document?.hidden; // a worker never is

/**
 * Waits until the tab is visible.
 * @param {AbortSignal} signal ends the wait early
 */
export async function untilVisible(signal) {
  const wait = childOf(signal);
  if (!isHidden()) return;
  document.addEventListener('visibilitychange', () => isHidden() || wait.abort(), { signal: wait.signal });
  await untilAborted(wait.signal);
}

/**
 * Runs code of the application. Its exceptions are its own: they go to the console and
 * do not disturb the client.
 * @template T
 * @param {() => T} fn
 */
export function runGuarded(fn) {
  try {
    return fn();
  } catch (error) {
    queueMicrotask(() => { throw error; });
  }
}
