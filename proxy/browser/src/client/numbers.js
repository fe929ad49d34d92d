import { identityOf, sameIdentity } from './identity.js';

/** @typedef {import('../../client.d.ts').Usage} Usage */
/** @typedef {'stream' | 'read'} Source where a usage object came from */

/**
 * @param {any} value
 * @returns {value is Usage}
 */
export function isUsage(value) {
  return typeof value?.used === 'number' && typeof value.as_of === 'string' && typeof value.period === 'object';
}

/**
 * Reports whether another call would be admitted.
 * @param {Usage} usage
 * @param {string | null} endpoint null: any
 */
export function admits(usage, endpoint) {
  return usage.allowed && (usage.endpoints?.[endpoint ?? '']?.allowed ?? true);
}

/**
 * A refusal does not say when the limit would be reached. What was last known stays.
 * @param {Usage} usage
 * @param {Usage | null} known
 */
function keepForecast(usage, known) {
  const same = known && known.exhausts_at !== undefined && sameIdentity(identityOf(known), identityOf(usage));
  return same ? { exhausts_at: known.exhausts_at, ...usage } : usage;
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
  const known = new Map(before.limits.map((limit) => [limit.name, limit]));
  return usage.limits
    .filter((limit) => statusOf(usage, limit) === 'warning' && statusOf(before, known.get(limit.name)) === 'ok')
    .map(({ name }) => name);
}

/**
 * The newest numbers that are known: the last usage object, and the lower bound ("floor")
 * that the X-Usage header of a later response sets.
 */
export class Numbers {
  /** @type {Usage | null} */ usage = null;
  // Where usage came from.
  /** @type {Source | null} */ source = null;
  // Since when every arriving object has been older than usage.
  #heldBackSince = 0;
  /** @type {{ used: number, limit: number | null, start: string, timer: any } | null} */ #floor = null;
  #core;

  /** @param {import('./core.js').Core} core */
  constructor(core) {
    this.#core = core;
  }

  /**
   * Takes a usage object unless it is older than the known one.
   * @param {Usage} usage
   * @param {Source} source
   * @returns {boolean} whether it was taken
   */
  accept(usage, source) {
    const known = this.usage;
    if (known && this.source && known.user === usage.user && this.#isOlder(usage, source)) {
      // Its numbers are not news. That the gateway has lost its store is.
      if (usage.stale && !known.stale) this.usage = { ...known, stale: true };
      return false;
    }
    this.usage = keepForecast(usage, known);
    this.source = source;
    this.#heldBackSince = 0;
    const floor = this.#floor;
    const sameLimit = usage.period.start === floor?.start && usage.plan === known?.plan;
    if (floor && (usage.used >= floor.used || !sameLimit)) this.dropFloor();
    return true;
  }

  /** Takes a usage object that was kept. Any other replaces it. @param {Usage} usage */
  restore(usage) {
    this.usage = { ...usage, stale: true };
    this.source = null;
  }

  /** Forgets the usage object. */
  forget() { this.usage = null; }

  /** @param {Usage} usage @param {Source} source */
  #isOlder(usage, source) {
    const known = /** @type {Usage} */ (this.usage);
    const age = Date.parse(known.as_of) - Date.parse(usage.as_of);
    // The order of two answers from different places within one millisecond is unknown.
    const older = age > 0 || (age === 0 && source !== this.source && usage.used < known.used);
    // A gateway without its store reports what it saw itself. Another may have seen more.
    if (usage.stale) return older || (usage.used < known.used && usage.period.start === known.period.start);
    if (!older) return false;
    // If the store's clock was set back, the number would otherwise stand still for as long.
    this.#heldBackSince ||= Date.now();
    return Date.now() - this.#heldBackSince < 30_000;
  }

  /**
   * Takes the numbers of X-Usage. They carry no time, so they only ever raise the count,
   * and the next event of the stream, or a read, has to confirm them.
   * @param {number} used
   * @param {number | null} limit null: unlimited
   */
  raiseFloor(used, limit) {
    const usage = this.usage;
    if (!usage || used <= usage.used || used <= (this.#floor?.used ?? 0)) return;
    clearTimeout(this.#floor?.timer);
    const floor = this.#floor = { used, limit, start: usage.period.start, timer: undefined };
    floor.timer = setTimeout(async () => {
      await this.#core.requests.read(this.#core.closed);
      if (this.#floor === floor) {
        this.#floor = null;
        this.#core.state.publish();
      }
    }, this.#core.timing.floor);
  }

  dropFloor() {
    clearTimeout(this.#floor?.timer);
    this.#floor = null;
  }

  /** The usage object with the floor applied; null: nothing is known. */
  current() {
    const usage = this.usage;
    return usage && { ...usage, ...this.#aboveFloor(usage) };
  }

  /** @param {Usage} usage */
  #aboveFloor(usage) {
    const floor = this.#floor;
    if (!floor) return {};
    const { used, limit } = floor;
    if (limit === null) return { used };
    const blocked = used >= limit;
    return {
      used,
      limit,
      remaining: Math.max(0, limit - used),
      percent: limit ? Math.floor((used * 100) / limit) : 100,
      status: blocked ? 'blocked' : usage.status,
      // If calls are allowed although the limit is reached, the plan only observes.
      allowed: usage.allowed && (!blocked || usage.status === 'blocked'),
    };
  }
}
