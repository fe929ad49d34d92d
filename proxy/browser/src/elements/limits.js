/**
 * Which limits are shown where.
 * @typedef {import('../../client.d.ts').UsageState} UsageState
 * @typedef {import('../../client.d.ts').LimitUsage} LimitUsage
 */

/**
 * The first item with the lowest rank.
 * @template T
 * @param {T[]} items @param {(item: T) => number} rank
 * @returns {T | undefined}
 */
function lowest(items, rank) {
  return items.reduce((best, item) => (best === undefined || rank(item) < rank(best) ? item : best), /** @type {T | undefined} */ (undefined));
}

/** The limit whose numbers are at the top of the state. @param {UsageState} state */
export function headlineLimit({ limits }) {
  return lowest(limits.filter((l) => !l.endpoint), (l) => (l.soft ? 2 : 0) + (l.shared ? 1 : 0));
}

/** The limit that has a bar of its own: that of all members of the organisation together. @param {UsageState} state */
export function poolLimit(state) {
  const headline = headlineLimit(state);
  return lowest(state.limits.filter((l) => l.shared && !l.endpoint && l !== headline), (l) => (l.soft ? 1 : 0));
}

/** The limit whose numbers the entry of an endpoint has. @param {UsageState} state @param {string} endpoint */
export function endpointLimit({ limits, period }, endpoint) {
  return lowest(limits.filter((l) => l.endpoint === endpoint && l.per === period.per && !l.shared),
    (l) => (l.soft ? 2 : 0) + (l.unit === 'units' ? 1 : 0));
}

/** What a call may use up of a limit. @param {UsageState} state @param {LimitUsage} limit @param {string | null} endpoint */
function neededOf({ endpoints }, limit, endpoint) {
  return (limit.unit === 'units' && endpoints[endpoint ?? '']?.cost?.max) || 1;
}

/**
 * Of the limits that keep calls out, the one that does so the longest: of those that refused the
 * last call, if that was one to the endpoint, and else of those that have too little left.
 * @param {UsageState} state
 * @param {string | null} endpoint null: any
 */
function blockingLimit(state, endpoint) {
  const tooLittle = (l) => l.used + neededOf(state, l, endpoint) > l.limit;
  const refused = state.refused?.endpoint === endpoint ? state.refused : null;
  const blocking = state.limits.filter((l) => (refused
    ? refused.violated.includes(l.name)
    : !l.soft && tooLittle(l) && (!l.endpoint || l.endpoint === endpoint)));
  return lowest(blocking, (l) => (!tooLittle(l) ? 0 // running calls hold the rest
    : l.resets_at === null ? -Infinity : -Date.parse(l.resets_at)));
}

/**
 * What a quantity is called, in the form that a number needs.
 * @param {UsageState} state @param {string | undefined} unit
 * @param {import('../messages/wording.js').Count} [n]
 */
export function unitName(state, unit, messages, n) {
  if (unit === 'units' && state.unit_name) return messages.unit(state.unit_name, n);
  return unit === 'units' ? messages.units(n) : messages.requests(n);
}

/**
 * Says which limit keeps calls out, and when it resets.
 * @param {UsageState} state
 * @param {typeof import('../messages/en.js').en} messages
 * @param {import('./locale.js').Locale} locale
 * @param {string | null} [endpoint] null: any; default: that of the refused call
 * @returns {{ kind: 'empty' | 'held' | 'short' | 'reached', limit: LimitUsage, text: string, renewal: string } | null}
 *   null: the plan has no limit
 */
export function limitReason(state, messages, locale, endpoint = state.refused?.endpoint ?? null) {
  const headline = headlineLimit(state);
  const limit = blockingLimit(state, endpoint) ?? headline;
  if (!limit) return null;
  if (limit.limit === 0) return { kind: 'empty', limit, text: messages.limitEmpty(limit.endpoint), renewal: '' };
  // X-Usage may be ahead of the list.
  const left = limit.limit - (limit === headline ? Math.max(state.used, limit.used) : limit.used);
  const needed = neededOf(state, limit, endpoint);
  if (needed <= left) return { kind: 'held', limit, text: messages.limitHeld, renewal: '' };
  const [cost, rest, all] = [needed, left, limit.limit].map((n) => locale.count(n));
  const name = (n) => unitName(state, limit.unit, messages, n);
  const text = left > 0
    ? messages.limitShort(cost, rest, all, limit.endpoint, limit.per, name(cost), limit.shared)
    : messages.limitReached(all, limit.endpoint, limit.per, name(all), limit.shared);
  const renewal = limit.resets_at ? messages.renews(locale.date(limit.resets_at)) : messages.doesNotRenew;
  return { kind: left > 0 ? 'short' : 'reached', limit, text, renewal };
}

/** The same as one text; empty: the plan has no limit. */
export function limitText(state, messages, locale) {
  const { text, renewal } = limitReason(state, messages, locale) ?? {};
  return [text, renewal].filter(Boolean).join(' ');
}
