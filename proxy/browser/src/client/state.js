import { acceptNumbers, aboveFloor, admits, dropFloor, newlyWarned } from './numbers.js';
import { numbersChanged, pendingTotal } from './pending.js';
import { learn } from './tabs.js';
import { runGuarded } from './waiting.js';

/**
 * @typedef {import('../../client.d.ts').Usage} Usage
 * @typedef {import('../../client.d.ts').Refusal} Refusal
 * @typedef {import('./core.js').Core} Core
 */

// What the application sees, and who has subscribed to it.

/**
 * Takes a usage object of the present user, if it is not older than the known one, and
 * shows the state.
 * @param {Core} core
 * @param {Usage} usage
 * @returns {boolean} whether it was taken
 */
export function takeNumbers(core, usage) {
  const before = core.usage;
  const accepted = acceptNumbers(core, usage);
  if (accepted && core.refused && admits(usage, core.refused.endpoint)) core.refused = null;
  // Later, so that other tabs learn the numbers before they learn that a call is over.
  if (accepted) queueMicrotask(() => numbersChanged(core, usage.in_flight === 0 && !usage.stale));
  publish(core);
  const warned = accepted && before ? newlyWarned(before, usage) : [];
  if (warned.length) dispatch(core, 'usage-warning', { ...core.current, warned });
  return accepted;
}

/**
 * Shows that a call was refused for a limit.
 * @param {Core} core
 * @param {Refusal} refusal
 * @param {Usage | null} usage at that time, if the answer had it
 * @param {import('./session.js').Session | null} session that the call was made in
 */
export function refuse(core, refusal, usage, session) {
  if (usage) learn(core, session, usage);
  core.refused = refusal;
  publish(core);
  if (core.current) dispatch(core, 'usage-exceeded', { ...core.current, ...refusal });
}

/** @param {Core} core */
export function dismiss(core) {
  core.refused = null;
  publish(core);
}

/** Forgets what belongs to the previous user. @param {Core} core */
export function forgetNumbers(core) {
  dropFloor(core);
  core.usage = null;
  dismiss(core);
}

/**
 * @param {Core} core
 * @param {import('../../client.d.ts').Connection} connection
 * @param {import('../../client.d.ts').ConnectionProblem} [problem]
 * @param {boolean} [quietly] it is published with the numbers that have arrived
 */
export function setConnection(core, connection, problem = null, quietly = false) {
  if (core.connection === connection && core.problem === problem) return;
  core.connection = connection;
  core.problem = problem;
  dispatch(core, 'connection', { connection, problem });
  if (!quietly) publish(core);
}

/** Makes a new state object and hands it to all subscribers. @param {Core} core */
export function publish(core) {
  if (core.closed.aborted) return;
  const { connection, current: before, refused, usage } = core;
  const state = core.current = usage && {
    ...usage,
    .../** @type {any} */ (aboveFloor(core, usage)),
    pending: pendingTotal(core),
    stale: usage.stale || connection === 'offline',
    connection,
    refused,
  };
  if (!state && !before) return;
  for (const fn of [...core.subscribers]) runGuarded(() => fn(state));
  if (state) dispatch(core, 'usage', state);
}

/** @param {Core} core @param {string} type @param {any} detail */
export function dispatch({ target }, type, detail) {
  runGuarded(() => { target.dispatchEvent(new CustomEvent(type, { detail })); });
}
