const MOST_ROUTES = 100;

/** @typedef {import('./pending.js').Call} Call */

/**
 * What running calls may cost, in units. A URL does not tell under which endpoint a call
 * counts. The caller may say it; otherwise the answers to earlier calls narrow it down, and
 * the cheapest endpoint that is left is taken. So the price is never more than what the
 * gateway holds, and while a call runs it can only rise.
 */
export class Prices {
  /**
   * The endpoints that a route, as "METHOD path", may count under.
   * @type {Map<string, string[]>}
   */
  #candidates = new Map();
  /** @type {Record<string, import('../../client.d.ts').EndpointUsage>} as last looked at */ #endpoints = {};
  // The costs of all endpoints, as text.
  #costs = '';
  #core;

  /** @param {import('./core.js').Core} core */
  constructor(core) {
    this.#core = core;
  }

  /** The costs that are known now, as text. If they have changed, what was learned by them is forgotten. */
  readCosts() {
    const { endpoints = {} } = this.#core.state.numbers.usage ?? {};
    if (endpoints !== this.#endpoints) {
      this.#endpoints = endpoints;
      const costs = JSON.stringify(Object.entries(endpoints).map(([name, { cost }]) => [name, cost]));
      if (costs !== this.#costs) this.#candidates.clear();
      this.#costs = costs;
    }
    return this.#costs;
  }

  /** @param {Call} call @returns {number} */
  priceOf({ route, endpoint }) {
    this.readCosts(); // forgets what is out of date
    const endpoints = this.#endpoints;
    const names = endpoints[endpoint ?? '']?.cost ? [endpoint ?? ''] : this.#candidates.get(route) ?? [];
    const prices = (names.length ? names : Object.keys(endpoints)).map((name) => endpoints[name]?.cost?.max ?? 1);
    return prices.length ? Math.min(...prices) : 1;
  }

  /**
   * A call has succeeded and was charged so many units, and may be charged the rest as well. A call
   * that was made before the costs changed tells nothing about the new ones.
   * @param {Call} call @param {number} charged @param {number} rest
   */
  learnCharge({ route, costs }, charged, rest) {
    if (costs !== this.readCosts()) return;
    const fits = (/** @type {string} */ name) => {
      const { min, max } = this.#endpoints[name]?.cost ?? { min: 1, max: 1 };
      return rest ? min === charged && max === charged + rest : min <= charged && charged <= max;
    };
    this.#learn(route, (this.#candidates.get(route) ?? Object.keys(this.#endpoints)).filter(fits));
  }

  /** The gateway has named the endpoint of a route. @param {string} route @param {string} endpoint */
  learnEndpoint(route, endpoint) { this.#learn(route, [endpoint]); }

  /** @param {string} route @param {string[]} names none: they contradict each other */
  #learn(route, names) {
    this.#candidates.delete(route); // the last learned stands at the end
    if (names.length) this.#candidates.set(route, names);
    if (this.#candidates.size > MOST_ROUTES) this.#candidates.delete(this.#candidates.keys().next().value ?? '');
  }
}
