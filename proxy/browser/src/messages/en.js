import { capital, plurals, words } from './wording.js';

const plural = plurals('en');
const windows = { minute: 'this minute', hour: 'this hour', day: 'today', week: 'this week', month: 'this month', year: 'this year' };
const forThis = (per) => (per === 'ever' ? '' : ` for this ${per}`);

/**
 * English. per is a period: minute, hour, day, week, month, year or ever. unit is what the
 * numbers count, in the form that goes with them, such as credits; it is empty where they
 * are the requests that the element shows anyway.
 */
export const en = {
  separator: ', ',
  compactLabel: 'Usage',
  compactUnits: (unit) => capital(unit),
  label: (per) => words('Usage', windows[per]),
  requests: (n) => plural(n, { one: 'request', other: 'requests' }),
  units: (n) => plural(n, { one: 'unit', other: 'units' }),
  unit: (name, n) => plural(n, { one: name.replace(/([^s])s$/, '$1'), other: name }),
  used: (used, limit, unit) => words(`${used} of ${limit}`, unit, 'used'),
  usedOnly: (used, unit) => words(used, unit, 'used'),
  compact: (used, limit, unit) => words(`${used}/${limit}`, unit),
  remaining: (n) => `${n} left`,
  carried: (n, unit, per) => words('Includes', n, unit, 'from', per === 'day' ? 'yesterday' : `last ${per}`),
  running: (n) => `${n} running`,
  held: (n, unit) => words(n, unit, 'held'),
  price: (endpoint, min, max, unit) => words(endpoint, 'costs', min.value === max.value ? max : `${min} to ${max}`, unit),
  unlimited: 'Unlimited',
  warning: 'Almost used up',
  blocked: 'Limit reached',
  softReached: 'Limit reached, not enforced',
  notEnough: 'Not enough left',
  notIncluded: 'Not included in your plan',
  limitOf: (name, status) => `${name}: ${status[0].toLowerCase()}${status.slice(1)}`,
  andMore: (text, n) => `${text}, and ${n} more`,
  resets: 'Resets',
  neverRenews: 'Does not renew',
  stale: 'Not up to date',
  staleSince: (time) => `Not up to date. Last updated ${time}`,
  unavailable: 'Usage is not available right now',
  unauthorized: 'Sign in to see your usage',
  statusChanged: (status, count) => `${status}: ${count}`,
  breakdown: 'By endpoint',
  of: (used, limit, unit) => words(`${used} of ${limit}`, unit),
  amount: (n, unit) => words(n, unit),
  soft: (name) => `${name} (not enforced)`,
  pool: (per) => words('Your organisation', windows[per]),
  shared: (name) => `${name}, whole organisation`,
  perWindow: (endpoint, per) => `${endpoint ?? 'All endpoints'}, ${per === 'ever' ? 'in total' : `this ${per}`}`,
  promptTitle: 'Limit reached',
  refusedTitle: 'Your last request was refused',
  limitReached: (limit, endpoint, per, unit, shared) => `${shared ? 'Your organisation has' : 'You have'} used ${words(plural(limit, { one: 'the', other: 'all' }), limit, endpoint, unit)}${forThis(per)}.`,
  limitShort: (cost, left, limit, endpoint, per, unit, shared) => `The request may cost ${words(cost, unit)}, and only ${left} of ${words(limit, endpoint, endpoint && unit)} ${plural(left, { one: 'is', other: 'are' })} left${shared ? ' to your organisation' : ''}${forThis(per)}.`,
  limitEmpty: (endpoint) => `Your plan does not include ${endpoint ?? 'any requests'}.`,
  limitHeld: 'Requests that are still running may use up the rest. Try again in a moment.',
  renews: (when) => `Resets ${when}.`,
  doesNotRenew: 'This limit does not renew.',
  dismiss: 'Dismiss',
  upgrade: 'Upgrade',
};
