/** @typedef {import('./core.js').Core} Core */
/** @typedef {import('./pending.js').Call} Call */

// What running calls may cost, in units. A URL does not tell under which endpoint a call
// counts. The caller may say it; otherwise the answers to earlier calls narrow it down, and
// the cheapest endpoint that is left is taken. So the price is never more than what the
// gateway holds, and while a call runs it can only rise.

/** @param {Core} core */
const endpointsOf = (core) => core.usage?.endpoints ?? {};

/** The costs that are known now, as text. If they have changed, what was learned by them is forgotten. @param {Core} core */
export function readCosts(core) {
  const costs = JSON.stringify(Object.entries(endpointsOf(core)).map(([name, { cost }]) => [name, cost]));
  if (costs !== core.costs) core.candidates.clear();
  core.costs = costs;
  return costs;
}

/** @param {Core} core @param {Call} call @returns {number} */
export function priceOf(core, { route, endpoint = '' }) {
  const endpoints = endpointsOf(core);
  const names = endpoints[endpoint]?.cost ? [endpoint] : core.candidates.get(route) ?? Object.keys(endpoints);
  return names.length ? Math.min(...names.map((name) => endpoints[name]?.cost?.max ?? 1)) : 1;
}

/**
 * A call has succeeded and was charged so many units, and may be charged the rest as well. A call
 * that was made before the costs changed tells nothing about the new ones.
 * @param {Core} core @param {Call} call @param {number} charged @param {number} rest
 */
export function learnCharge(core, { route, costs }, charged, rest) {
  if (costs !== readCosts(core)) return;
  const endpoints = endpointsOf(core);
  learnEndpoints(core, route, (core.candidates.get(route) ?? Object.keys(endpoints)).filter((name) => {
    const { min, max } = endpoints[name]?.cost ?? { min: 1, max: 1 };
    return rest ? min === charged && max === charged + rest : min <= charged && charged <= max;
  }));
}

/** @param {Core} core @param {string} route @param {string[]} names none: they contradict each other */
export function learnEndpoints({ candidates }, route, names) {
  if (candidates.size > 100) candidates.clear(); // as with an id in each path
  if (names.length) candidates.set(route, names);
  else candidates.delete(route);
}
