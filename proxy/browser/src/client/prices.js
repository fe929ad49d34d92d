const MOST_ROUTES = 100;

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
  #core;

  /** @param {import('./core.js').Core} core */
  constructor(core) {
    this.#core = core;
  }

  /** @param {{ route: string, endpoint?: string }} call @returns {number} */
  priceOf({ route, endpoint }) {
    const { endpoints = {} } = this.#core.state.numbers.usage ?? {};
    const said = endpoints[endpoint ?? '']?.cost;
    if (said) return said.max;
    const names = this.#candidates.get(route)?.filter((name) => name in endpoints) ?? [];
    const prices = (names.length ? names : Object.keys(endpoints)).map((name) => endpoints[name].cost?.max ?? 1);
    return prices.length ? Math.min(...prices) : 1;
  }

  /** A successful call of a route was charged so many units. @param {string} route @param {number} charged */
  learnCharge(route, charged) {
    const { endpoints = {} } = this.#core.state.numbers.usage ?? {};
    const fitting = Object.keys(endpoints).filter((name) => {
      const { min, max } = endpoints[name].cost ?? { min: 1, max: 1 };
      return min <= charged && charged <= max;
    });
    const before = this.#candidates.get(route);
    const both = before?.filter((name) => fitting.includes(name)) ?? [];
    this.#learn(route, both.length ? both : fitting); // both are empty if the costs have changed
  }

  /** The gateway has named the endpoint of a route. @param {string} route @param {string} endpoint */
  learnEndpoint(route, endpoint) { this.#learn(route, [endpoint]); }

  /** @param {string} route @param {string[]} names */
  #learn(route, names) {
    this.#candidates.delete(route); // the last learned stands at the end
    this.#candidates.set(route, names);
    if (this.#candidates.size > MOST_ROUTES) this.#candidates.delete(this.#candidates.keys().next().value ?? '');
  }
}
