/** All times in milliseconds. Tests replace some of them. */
export const TIMING = {
  poll: 8_000, // between two reads where there is no stream; up to a fifth more, so at most the documented 10 s
  firstEvent: 10_000, // a stream that has sent no event by then is being buffered on its way
  impatience: 2_000, // wait for the stream's first event; after that GET /usage is read as well
  dead: 40_000, // a stream without a byte for this long is dead; the gateway sends one every 15 s
  backoff: 1_000, // upper bound of the wait before the first retry; it doubles with each failure, up to 30 times as much
  settled: 10_000, // a stream that lasted this long was a good one
  floor: 2_000, // how long the stream may take to confirm X-Usage
  grace: 5_000, // a hidden tab that becomes visible again by then keeps its turn
  leaderSilent: 4_000, // then a tab asks the leading one for a sign; after three times, and up to a fifth more, it takes over
};

/**
 * How long to wait before the next attempt: exponential backoff with full jitter.
 * @param {{ timing: typeof TIMING }} core
 * @param {number} failures in a row
 */
export function backoff({ timing }, failures) {
  return Math.random() * timing.backoff * Math.min(30, 2 ** failures);
}
