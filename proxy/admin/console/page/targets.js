// The targets of upstreams, as rows of a table.
import { badge, bar, h } from './dom.js';
import { number, share, time } from './format.js';

/** The upstreams of an overview. */
export const upstreamsOf = ({ upstreams }) => upstreams?.upstreams ?? upstreams ?? [];

export const targetHead = (upstream) => [`Targets of ${upstream}`, 'Weight', 'Share', 'State', 'Running'];

/** What a target is doing: a badge, and why. */
export function targetState(t) {
  if (t.drained) return [badge('warn', 'drained'), ' ', h('span', { className: 'dim small id' }, 'since ', time(t.drained.since, 'time'), t.drained.reason ? `: ${t.drained.reason}` : '')];
  if (!t.healthy) return [badge('bad', 'not healthy'), ' ', h('span', { className: 'dim small id' }, t.check_error ?? '')];
  if (t.ejected_until) return [badge('bad', 'ejected'), ' ', h('span', { className: 'dim small' }, 'until ', time(t.ejected_until, 'time'))];
  if (t.weight === 0) return [badge('', 'weight 0')];
  return [badge('ok', 'healthy')];
}

export const targetRows = (upstream) => upstream.targets.map((t) => [
  h('code', null, t.url), number(t.weight),
  h('span', { className: 'measure' }, bar([t.share, 'plain']), h('span', null, share(t.share ?? 0))),
  h('span', null, targetState(t)), number(t.in_flight)]);
