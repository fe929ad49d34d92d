import { read } from './requests.js';
import { publish } from './state.js';

/** @typedef {import('../../client.d.ts').Usage} Usage */
/** @typedef {import('./core.js').Core} Core */

// The newest numbers that are known: the last usage object, and the lower bound ("floor")
// that the X-Usage header of a later response sets.

/**
 * @param {any} value
 * @returns {value is Usage}
 */
export function isUsage(value) {
  return Boolean(value?.as_of && value.period);
}

/**
 * Reports whether another call would be admitted.
 * @param {Usage} usage
 * @param {string | null} [endpoint] none: any
 */
export function admits(usage, endpoint) {
  return usage.allowed && (usage.endpoints[endpoint ?? '']?.allowed ?? true);
}

/**
 * How far a limit is used up. Where a warning begins is the gateway's configuration, which shows
 * only in the status of the headline limit.
 * @param {Usage} usage
 * @param {import('../../client.d.ts').LimitUsage | undefined} limit one of usage
 */
function statusOf(usage, limit) {
  if (!limit) return 'ok';
  if (!limit.endpoint && limit.limit === usage.limit && limit.used === usage.used) return usage.status;
  if (limit.used >= limit.limit) return 'blocked';
  return limit.used * 100 >= limit.limit * 80 ? 'warning' : 'ok';
}

/**
 * Returns the names of the limits that have turned from ok to warning.
 * @param {Usage} before
 * @param {Usage} usage
 */
export function newlyWarned(before, usage) {
  return usage.limits
    .filter((limit) => statusOf(usage, limit) === 'warning' && statusOf(before, before.limits.find(({ name }) => name === limit.name)) === 'ok')
    .map(({ name }) => name);
}

/**
 * Takes a usage object unless it is older than the known one.
 * @param {Core} core
 * @param {Usage} usage
 * @returns {boolean} whether it was taken
 */
export function acceptNumbers(core, usage) {
  const known = core.usage;
  if (known && isOlder(core, known, usage)) {
    // Its numbers are not news. That the gateway has lost its store is.
    if (usage.stale && !known.stale) core.usage = { ...known, stale: true };
    return false;
  }
  // A refusal does not say when the limit would be reached. What was last known stays.
  const forecast = known?.plan === usage.plan && 'exhausts_at' in known && { exhausts_at: known.exhausts_at };
  core.usage = { ...forecast, ...usage };
  core.heldBackSince = 0;
  if (core.floor && usage.used >= core.floor.used) dropFloor(core);
  return true;
}

/** @param {Core} core @param {Usage} known @param {Usage} usage */
function isOlder(core, known, usage) {
  if (known.stale && !usage.stale) return false;
  const age = Date.parse(known.as_of) - Date.parse(usage.as_of);
  // The order of two answers within one millisecond is unknown.
  const older = age > 0 || (age === 0 && usage.used < known.used);
  // A gateway without its store reports what it saw itself. Another may have seen more.
  if (usage.stale) return older || (usage.used < known.used && usage.period.start === known.period.start);
  if (!older) return false;
  // If the store's clock was set back, the number would otherwise stand still for as long.
  core.heldBackSince ||= Date.now();
  return Date.now() - core.heldBackSince < 30_000;
}

/**
 * Takes the numbers of X-Usage. They carry no time, so they only ever raise the count,
 * and the next event of the stream, or a read, has to confirm them.
 * @param {Core} core
 * @param {number} used
 */
export function raiseFloor(core, used) {
  const { usage } = core;
  if (!usage || used <= usage.used || used <= (core.floor?.used ?? 0)) return;
  dropFloor(core);
  const floor = core.floor = { used, timer: 0 };
  floor.timer = setTimeout(async () => {
    await read(core);
    if (core.floor === floor) core.floor = null;
    publish(core);
  }, core.timing.floor);
}

/** @param {Core} core */
export function dropFloor(core) {
  clearTimeout(core.floor?.timer);
  core.floor = null;
}

/** Returns what is above the usage object. @param {Core} core @param {Usage} usage */
export function aboveFloor({ floor }, usage) {
  if (!floor) return {};
  const { used } = floor;
  const { allowed, limit, status } = usage;
  if (limit === null) return { used };
  const blocked = used >= limit;
  return {
    used,
    remaining: Math.max(0, limit - used),
    percent: limit ? Math.floor((used * 100) / limit) : 100,
    status: blocked ? 'blocked' : status,
    // If calls are allowed although the limit is reached, the plan only observes.
    allowed: allowed && (!blocked || status === 'blocked'),
  };
}
