// The limits of a user or an organisation, as bars and as sentences.
import { bar, h } from './dom.js';
import { amountName, number, time } from './format.js';

/** The tone of a limit: green, yellow from warn_at percent on, red at the limit. */
export function toneOf(l, warnAt = 80) {
  if (l.used >= l.limit) return 'bad';
  return l.used * 100 >= l.limit * warnAt ? 'warn' : 'ok';
}

const periods = { minute: 'a minute', hour: 'an hour', day: 'a day', week: 'a week', month: 'a month', year: 'a year', ever: 'in all' };

/** A limit of a plan, as in "100 requests a month". */
export function limitText(l, unitName) {
  const amount = l.amount ?? l.limit;
  const unit = l.quantity ?? l.unit;
  const name = unit === 'units' ? unitName || 'units' : amount === 1 ? 'request' : 'requests';
  return `${number(amount)} ${name} ${periods[l.per] ?? `per ${l.per}`}${l.endpoint ? ` to ${l.endpoint}` : ''}`;
}

const joined = new Intl.ListFormat('en');

/** What a plan allows each member of an organisation alone, beside what they share. */
export function memberText({ limits, concurrent }, unitName) {
  const texts = limits.map((l) => `${limitText(l, unitName)}${l.soft ? ' (soft: refuses nobody)' : ''}`);
  return `${texts.length ? `Each member may use ${joined.format(texts)}.` : 'Members have no limits of their own.'}${concurrent ? ` ${runningText(concurrent, ' of each')}` : ''}`;
}

/** How many requests may run at once. */
export const runningText = (limit, whose = '') => `At most ${number(limit)} ${limit === 1 ? 'request' : 'requests'}${whose} may run at once.`;

/** One limit: what is used of it, what is left, and when it renews. */
export function limitRow(l, { warnAt, unitName, granted, held = 0, showGrant = true, observe = false }) {
  const close = toneOf(l, warnAt);
  const tone = observe && close === 'bad' ? 'warn' : close;
  const of = l.limit || 1;
  const tags = [l.shared && 'shared', l.soft && 'soft: refuses nobody', showGrant && granted && `${number(granted)} granted`, l.carried && `${number(l.carried)} carried over`].filter(Boolean);
  const left = l.soft ? (l.over ? `${number(l.over)} above it` : `${number(l.remaining)} left`) : observe && l.remaining === 0 ? 'none left, but observe refuses nothing' : l.limit === 0 ? 'not in this plan' : l.remaining === 0 ? 'none left: blocked' : `${number(l.remaining)} left`;
  return h('li', { className: 'limit', 'data-limit': l.name },
    h('div', { className: 'line' },
      h('h3', null, l.name, tags.map((text) => [' ', h('span', { className: 'tag' }, text)])),
      h('span', { className: `left ${tone}` }, left)),
    bar([l.used / of, tone], [held / of, `${tone} held`]),
    h('div', { className: 'line small dim' },
      h('span', null, `${number(l.used)} of ${number(l.limit)} ${amountName(l.unit, unitName)} used${l.endpoint ? ` for ${l.endpoint}` : ''}${held ? `, ${number(held)} held by running requests` : ''}`),
      h('span', null, l.resets_at ? ['renews ', time(l.resets_at)] : 'never renews')));
}

export const limitKey = (l) => `${l.shared ? 'shared/' : ''}${l.name}`;

/** What was granted to each limit, by limitKey. */
export const grantsOf = (user) => new Map((user.granted ?? []).map((g) => [limitKey(g), g.requests ?? g.units ?? 0]));

/** A sentence about a limit that gets another size: "month: 100 of 100 used; the limit becomes 150, so 50 are left." */
export function changedLimit(l, limit) {
  const change = limit === l.limit ? 'the limit stays the same' : `the limit becomes ${number(limit)}`;
  return `${l.name}: ${number(l.used)} of ${number(l.limit)} used; ${change}, so ${leftText(Math.max(0, limit - l.used))}.`;
}

export const leftText = (n) => (n === 0 ? 'nothing is left' : n === 1 ? '1 is left' : `${number(n)} are left`);

/** The same for what is set back to 0. */
export const resetLimit = (l) => `${l.name}: ${number(l.used)} of ${number(l.limit)} used; becomes 0, so ${leftText(l.limit)}.`;
