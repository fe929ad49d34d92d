/** The English texts. Numbers and dates come in the locale of the page. */
export const MESSAGES = {
  compactLabel: 'Usage',
  label: (per) => ({ minute: 'Usage this minute', hour: 'Usage this hour', day: 'Usage today', week: 'Usage this week', month: 'Usage this month', year: 'Usage this year' })[per] ?? 'Usage',
  used: (used, limit) => `${used} of ${limit} used`,
  usedOnly: (used) => `${used} used`,
  compact: (used, limit) => `${used}/${limit}`,
  remaining: (n) => `${n} left`,
  running: (n) => `${n} running`,
  unlimited: 'Unlimited',
  warning: 'Almost used up',
  blocked: 'Limit reached',
  notIncluded: 'Not included in your plan',
  resets: 'Resets',
  stale: 'Not up to date',
  staleSince: (time) => `Not up to date. Last updated ${time}`,
  loading: 'Loading usage',
  unavailable: 'Usage is not available right now',
  unauthorized: 'Sign in to see your usage',
  breakdown: 'By endpoint',
  of: (used, limit) => `${used} of ${limit}`,
  perWindow: (endpoint, per) => `${endpoint ?? 'All endpoints'}, this ${per}`,
  promptTitle: 'Limit reached',
  refusedTitle: 'Your last request was refused',
  limitReached: (limit, endpoint, per) => `You have used all ${limit} ${endpoint ? `${endpoint} requests` : 'requests'} for this ${per}.`,
  limitEmpty: (endpoint) => `Your plan does not include ${endpoint ?? 'any requests'}.`,
  limitHeld: 'Requests that are still running may use up the rest. Try again in a moment.',
  renews: (when) => `Resets ${when}.`,
  upgrade: 'Upgrade',
};

/**
 * Says which limit is reached, and when it resets.
 * @param {import('../../client.d.ts').UsageState} state
 * @param {typeof MESSAGES} messages
 * @param {import('./locale.js').Locale} locale
 */
export function limitText(state, messages, locale) {
  const violated = state.refused?.violated ?? [];
  const headline = state.limits.find((l) => !l.endpoint && l.per === state.period.per);
  const limit = state.limits.findLast?.((l) => violated.includes(l.name)) ?? headline;
  if (!limit) return '';
  if (limit.limit === 0) return messages.limitEmpty(limit.endpoint);
  if (limit.used < limit.limit) return messages.limitHeld;
  const reached = messages.limitReached(locale.number(limit.limit), limit.endpoint, limit.per);
  return `${reached} ${messages.renews(locale.date(limit.resets_at))}`;
}
