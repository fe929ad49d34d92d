import { headlineLimit, neededOf, refusingLimit, unitName } from './limits.js';

const withUnit = (text, unit) => (unit ? `${text} ${unit}` : text);
/** An amount: 5 credits, 1 credit. */
const amount = (n, unit) => withUnit(n, n === '1' ? unit?.replace(/([^s])s$/, '$1') : unit);
const forThis = (per) => (per === 'ever' ? '' : ` for this ${per}`);

/**
 * The English texts. Numbers and dates come in the locale of the page. unit is what the
 * numbers count, such as credits; it is empty where they are the requests that the meter
 * shows anyway.
 */
export const MESSAGES = {
  compactLabel: 'Usage',
  compactUnits: (unit) => unit[0].toUpperCase() + unit.slice(1),
  label: (per) => ({ minute: 'Usage this minute', hour: 'Usage this hour', day: 'Usage today', week: 'Usage this week', month: 'Usage this month', year: 'Usage this year' })[per] ?? 'Usage',
  requests: 'requests',
  units: 'units',
  used: (used, limit, unit) => `${withUnit(`${used} of ${limit}`, unit)} used`,
  usedOnly: (used, unit) => `${amount(used, unit)} used`,
  compact: (used, limit, unit) => withUnit(`${used}/${limit}`, unit),
  remaining: (n) => `${n} left`,
  carried: (n, unit, per) => `Includes ${amount(n, unit)} from ${per === 'day' ? 'yesterday' : `last ${per}`}`,
  running: (n) => `${n} running`,
  held: (n, unit) => `${amount(n, unit)} held`,
  price: (endpoint, min, max, unit) => `${endpoint} costs ${min === max ? amount(max, unit) : `${min} to ${amount(max, unit)}`}`,
  unlimited: 'Unlimited',
  warning: 'Almost used up',
  blocked: 'Limit reached',
  softReached: 'Limit reached, not enforced',
  notIncluded: 'Not included in your plan',
  resets: 'Resets',
  neverRenews: 'Does not renew',
  stale: 'Not up to date',
  staleSince: (time) => `Not up to date. Last updated ${time}`,
  loading: 'Loading usage',
  unavailable: 'Usage is not available right now',
  unauthorized: 'Sign in to see your usage',
  breakdown: 'By endpoint',
  of: (used, limit, unit) => withUnit(`${used} of ${limit}`, unit),
  amount,
  soft: (name) => `${name} (not enforced)`,
  pool: (per) => ({ minute: 'Your organisation this minute', hour: 'Your organisation this hour', day: 'Your organisation today', week: 'Your organisation this week', month: 'Your organisation this month', year: 'Your organisation this year' })[per] ?? 'Your organisation',
  shared: (name) => `${name}, whole organisation`,
  perWindow: (endpoint, per) => `${endpoint ?? 'All endpoints'}, ${per === 'ever' ? 'in total' : `this ${per}`}`,
  promptTitle: 'Limit reached',
  refusedTitle: 'Your last request was refused',
  limitReached: (limit, endpoint, per, unit, shared) => `${shared ? 'Your organisation has' : 'You have'} used ${limit === '1' ? 'the' : 'all'} ${amount(limit, endpoint ? `${endpoint} ${unit}` : unit)}${forThis(per)}.`,
  limitShort: (cost, left, limit, endpoint, per, unit, shared) => `The request may cost ${amount(cost, unit)}, and only ${left} of ${limit}${endpoint ? ` ${endpoint} ${unit}` : ''} ${left === '1' ? 'is' : 'are'} left${shared ? ' to your organisation' : ''}${forThis(per)}.`,
  limitEmpty: (endpoint) => `Your plan does not include ${endpoint ?? 'any requests'}.`,
  limitHeld: 'Requests that are still running may use up the rest. Try again in a moment.',
  renews: (when) => `Resets ${when}.`,
  doesNotRenew: 'This limit does not renew.',
  upgrade: 'Upgrade',
};

/**
 * Says which limit is reached, and when it resets.
 * @param {import('../../client.d.ts').UsageState} state
 * @param {typeof MESSAGES} messages
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
  const unit = unitName(state, limit.unit, messages);
  const reason = left > 0
    ? messages.limitShort(locale.number(needed), locale.number(left), locale.number(limit.limit), limit.endpoint, limit.per, unit, limit.shared)
    : messages.limitReached(locale.number(limit.limit), limit.endpoint, limit.per, unit, limit.shared);
  return `${reason} ${limit.resets_at ? messages.renews(locale.date(limit.resets_at)) : messages.doesNotRenew}`;
}
