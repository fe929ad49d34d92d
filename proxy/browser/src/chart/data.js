// What the chart shows, computed from a history and the state of the usage.
import { headlineLimit } from '../elements.js';

/**
 * @typedef {import('../../client.d.ts').UsageState} UsageState
 * @typedef {import('../../client.d.ts').UsageHistory} UsageHistory
 *
 * An endpoint, or all that have no colour of their own: name is then null. color is 1 to 5,
 * or 0. total is that of all days.
 * @typedef {{ name: string | null, color: number, total: number }} Series
 *
 * parts has a number for each of the series.
 * @typedef {{ date: string, total: number, parts: number[], endpoints: Record<string, number> }} Day
 *
 * @typedef {{ unit: 'requests' | 'units', days: Day[], series: Series[], endpoints: string[], total: number }} ChartData
 */

const COLORS = 5;
const DAY = 24 * 60 * 60 * 1000;

/** @param {UsageHistory} history @param {UsageState | null} state @returns {ChartData} */
export function chartData(history, state) {
  const unit = state?.unit ?? 'requests';
  const amount = (u) => (unit === 'units' ? u.units ?? 0 : u.used);
  const days = history.days.map((day) => ({
    date: day.date,
    total: amount(day),
    endpoints: Object.fromEntries(Object.entries(day.endpoints).map(([name, u]) => [name, amount(u)])),
  }));
  const totals = new Map();
  for (const day of days) {
    for (const [name, n] of Object.entries(day.endpoints)) totals.set(name, (totals.get(name) ?? 0) + n);
  }
  const endpoints = [...totals.keys()].sort();
  const shown = endpoints.filter((name) => totals.get(name) > 0)
    .sort((a, b) => totals.get(b) - totals.get(a)).slice(0, COLORS);
  const known = [...new Set([...endpoints, ...Object.keys(state?.endpoints ?? {})])].sort();
  const colors = assignColors(shown, known);
  const series = shown.map((name) => ({ name, color: colors.get(name), total: totals.get(name) }));
  const total = sum(days.map((day) => day.total));
  const rest = total - sum(series.map((s) => s.total));
  if (rest > 0) series.push({ name: null, color: 0, total: rest });
  return {
    unit, series, endpoints, total,
    days: days.map((day) => {
      const parts = shown.map((name) => day.endpoints[name] ?? 0);
      return { ...day, parts: rest > 0 ? [...parts, day.total - sum(parts)] : parts };
    }),
  };
}

const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);

/**
 * Gives each of the shown endpoints a colour. An endpoint prefers the colour of its place among
 * all that are known, and so keeps it whatever is used most. Only with more endpoints than
 * colours may it get another one, if the one that it prefers is taken.
 * @param {string[]} shown @param {string[]} known sorted
 */
export function assignColors(shown, known) {
  const colors = new Map();
  const taken = new Set();
  for (const name of known.filter((name) => shown.includes(name))) {
    let color = known.indexOf(name) % COLORS;
    while (taken.has(color)) color = (color + 1) % COLORS;
    taken.add(color);
    colors.set(name, color + 1);
  }
  return colors;
}

/**
 * What each day of the running period would have if the headline limit were used evenly.
 *
 * The chart compares days with it, and does not show the sum of the period against the limit: a
 * sum needs a second scale, begins at 0 again in the middle of most charts, and hides which
 * days it comes from. Days that stay above this line use up the limit too early, which is
 * seen without reading a number. The sentence with the date says it exactly.
 * @param {UsageState} state
 * @returns {number | null} null: the limit says nothing about the days of one user
 */
export function evenPace(state) {
  const { limit, period: { start, end } } = state;
  if (!limit || !start || !end || headlineLimit(state)?.shared) return null;
  const days = Math.round((Date.parse(end) - Date.parse(start)) / DAY);
  return days < 1 ? null : limit / days;
}

// The gateway makes no forecast from fewer requests in the last days.
const FORECAST_DAYS = 7;
const FORECAST_REQUESTS = 10;

/**
 * Whether the headline limit lasts.
 * @param {UsageState} state @param {UsageHistory} history
 * @returns {{ kind: 'reached' } | { kind: 'exhausts' | 'lasts', at: string } | null} null: nobody knows
 */
export function forecast(state, history) {
  const { limit, used, exhausts_at: at, period: { end } } = state;
  if (limit === null || at === undefined) return null;
  if (used >= limit) return { kind: 'reached' };
  if (at !== null) return { kind: 'exhausts', at };
  const judged = sum(history.days.slice(-FORECAST_DAYS).map((day) => day.used));
  if (!end || judged < FORECAST_REQUESTS || headlineLimit(state)?.shared) return null;
  return { kind: 'lasts', at: end };
}
