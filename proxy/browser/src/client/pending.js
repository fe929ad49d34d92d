import { priceOf, readCosts } from './prices.js';
import { read } from './requests.js';
import { publish } from './state.js';
import { tell } from './tabs.js';

/** @typedef {import('./core.js').Core} Core */

/**
 * A running call of this tab.
 * @typedef {{ route: string, endpoint?: string, costs: string, rest?: number, since?: number, over?: boolean }} Call endpoint
 *   as the caller has named it; costs as they were known when it was made, see prices.js; rest: it is counted, and may cost so many units more at its
 *   end; since: when it was counted; over: its body has ended
 */

// The calls that are running: of this tab, and of the others by their ids. Each tab knows
// how many its calls are and what they may cost: the headline limit decides which is shown.

/** The running calls of this tab. @param {Core} core */
export function pendingHere(core) {
  readCosts(core); // forgets what is out of date
  const calls = [...core.calls];
  return {
    count: calls.filter((call) => call.rest === undefined).length,
    units: calls.reduce((sum, call) => sum + (call.rest ?? priceOf(core, call)), 0),
  };
}

/** What all of them may add to `used`. @param {Core} core */
export function pendingTotal(core) {
  const quantity = core.usage?.unit === 'units' ? 'units' : 'count';
  return [pendingHere(core), ...core.otherCalls.values()].reduce((sum, calls) => sum + calls[quantity], 0);
}

/** @param {Core} core @param {string} route @param {string} [endpoint] @returns {Call} */
export function beginCall(core, route, endpoint) {
  const call = { route, endpoint, costs: readCosts(core) };
  core.calls.add(call);
  callsChanged(core);
  return call;
}

/** A call is counted, and may cost so many units more at the end of its body. @param {Core} core @param {Call} call @param {number} rest */
export function awaitRest(core, call, rest) {
  call.rest = rest;
  call.since = Date.now();
  callsChanged(core);
}

/** The body of a call has ended. It stays until the numbers that follow have its cost. @param {Core} core @param {Call} call */
export function endWithNumbers(core, call) {
  if (core.usage?.in_flight === 0) return endCall(core, call);
  call.over = true;
  setTimeout(async () => {
    if (core.calls.has(call)) await read(core);
    endCall(core, call); // in case the gateway does not answer
  }, core.timing.floor);
}

/**
 * Newer numbers have arrived. If nothing of the user's is held, calls whose bodies nobody reads have
 * ended as well, unless they may be newer than these numbers.
 * @param {Core} core
 * @param {boolean} nothingHeld
 */
export function numbersChanged(core, nothingHeld) {
  for (const call of core.calls) {
    const forgotten = nothingHeld && call.rest !== undefined && Date.now() - (call.since ?? 0) > 5_000;
    if (call.over || forgotten) endCall(core, call);
  }
}

/** @param {Core} core @param {Call} call */
export function endCall(core, call) {
  if (core.calls.delete(call)) callsChanged(core);
}

/**
 * Takes what another tab has told.
 * @param {Core} core @param {string} id of the tab @param {ReturnType<typeof pendingHere> | null} pending
 */
export function setPendingElsewhere(core, id, pending) {
  const some = pending && (pending.count || pending.units);
  if (!some && !core.otherCalls.delete(id)) return;
  if (some) core.otherCalls.set(id, { ...pending, at: Date.now() });
  watchCalls(core);
  publish(core);
}

/** @param {Core} core */
function callsChanged(core) {
  tell(core);
  watchCalls(core);
  publish(core);
}

/** While calls run, repeats what they are, and forgets tabs that died with theirs. @param {Core} core */
function watchCalls(core) {
  const { calls, otherCalls, closed } = core;
  clearInterval(core.callsTimer);
  if ((!calls.size && !otherCalls.size) || closed.aborted) return;
  core.callsTimer = setInterval(() => {
    for (const [id, { at }] of otherCalls) {
      if (Date.now() - at > 90_000) otherCalls.delete(id); // timers of hidden tabs run once a minute
    }
    callsChanged(core);
  }, 20_000);
}
