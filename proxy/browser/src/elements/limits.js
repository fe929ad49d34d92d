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

/** What the refused call may use up of a limit. @param {UsageState} state @param {LimitUsage} limit */
export function neededOf({ endpoints, refused }, limit) {
  return (limit.unit === 'units' && endpoints[refused?.endpoint ?? '']?.cost?.max) || 1;
}

/** Of the limits that refused the last call, the one that keeps such calls out the longest. @param {UsageState} state */
export function refusingLimit(state) {
  const violated = state.limits.filter((l) => state.refused?.violated.includes(l.name));
  return lowest(violated, (l) => (l.used + neededOf(state, l) <= l.limit ? 0 // running calls hold the rest
    : l.resets_at === null ? -Infinity : -Date.parse(l.resets_at)));
}

/**
 * What a quantity is called, in the form that a number needs.
 * @param {UsageState} state @param {string | undefined} unit
 * @param {import('../messages/wording.js').Count} [n]
 */
export function unitName(state, unit, messages, n) {
  if (unit === 'units' && state.unit_name) return messages.unit(state.unit_name, n);
  const name = unit === 'units' ? messages.units : messages.requests;
  return typeof name === 'function' ? name(n) : name;
}

/**
 * Says which limit is reached, and when it resets.
 * @param {UsageState} state
 * @param {typeof import('../messages/en.js').en} messages
 * @param {import('./locale.js').Locale} locale
 */
export function limitText(state, messages, locale) {
  const headline = headlineLimit(state);
  const limit = refusingLimit(state) ?? headline;
  if (!limit) return '';
  if (limit.limit === 0) return messages.limitEmpty(limit.endpoint);
  // X-Usage may be ahead of the list.
  const left = limit.limit - (limit === headline ? Math.max(state.used, limit.used) : limit.used);
  const needed = neededOf(state, limit);
  if (needed <= left) return messages.limitHeld;
  const [cost, rest, all] = [needed, left, limit.limit].map((n) => locale.count(n));
  const name = (n) => unitName(state, limit.unit, messages, n);
  const reason = left > 0
    ? messages.limitShort(cost, rest, all, limit.endpoint, limit.per, name(cost), limit.shared)
    : messages.limitReached(all, limit.endpoint, limit.per, name(all), limit.shared);
  return `${reason} ${limit.resets_at ? messages.renews(locale.date(limit.resets_at)) : messages.doesNotRenew}`;
}
