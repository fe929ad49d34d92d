import { endpointLimit, headlineLimit, poolLimit, unitName } from '../elements.js';

/** The list of endpoints, and of the limits that neither a big bar nor an endpoint shows. */
export class Breakdown {
  #list;
  // The list items, by the key of their row.
  #items = new Map();

  /** @param {HTMLElement} list */
  constructor(list) {
    this.#list = list;
  }

  /**
   * @param {import('../../client.d.ts').UsageState} state
   * @param {typeof import('../messages/en.js').en} messages
   */
  static rows(state, messages) {
    // Numbers of another quantity than the big one say what they count.
    const unitOf = (unit) => (n) => (unit === 'units' || state.unit === 'units' ? unitName(state, unit, messages, n) : '');
    const soft = (name, limit) => (limit?.soft ? messages.soft(name) : name);
    const shown = new Set([headlineLimit(state), poolLimit(state)]);
    const rows = Object.entries(state.endpoints).map(([name, e]) => {
      const limit = endpointLimit(state, name);
      shown.add(limit);
      const unit = e.limit === undefined ? state.unit : e.unit;
      return {
        key: `endpoint ${name}`, name: soft(name, limit), used: unit === 'units' ? e.units ?? 0 : e.used, limit: e.limit,
        unit: unitOf(unit), status: limit?.soft && e.status === 'blocked' ? 'warning' : e.status,
      };
    });
    for (const l of state.limits) {
      if (shown.has(l)) continue;
      const name = messages.perWindow(l.endpoint, l.per);
      const status = l.used < l.limit ? 'ok' : l.soft ? 'warning' : 'blocked';
      rows.push({ key: `limit ${l.name}`, name: soft(l.shared ? messages.shared(name) : name, l), used: l.used, limit: l.limit, unit: unitOf(l.unit), status });
    }
    return rows;
  }

  /**
   * @param {ReturnType<typeof Breakdown.rows>} rows
   * @param {number} total the share of a row without a limit is one of this
   * @param {typeof import('../messages/en.js').en} messages
   * @param {import('../elements/locale.js').Locale} locale
   */
  show(rows, total, messages, locale) {
    const seen = new Set();
    for (const row of rows) {
      const item = this.#item(row.key);
      const limited = row.limit !== undefined;
      // The name of a unit leaves no room for a bar beside it.
      // A plan without an endpoint is no alarm.
      const notIncluded = row.limit === 0;
      item.li.className = [!notIncluded && row.status, (row.unit() || notIncluded) && 'wide'].filter(Boolean).join(' ');
      item.name.textContent = row.name;
      const [used, limit] = [locale.count(row.used), limited ? locale.count(row.limit) : null];
      item.value.textContent = notIncluded ? messages.notIncluded : limited ? messages.of(used, limit, row.unit(limit)) : messages.amount(used, row.unit(used));
      const share = row.used / ((limited ? row.limit : total) || 1);
      item.bar.style.setProperty('--_used', `${Math.min(1, share) * 100}%`);
      item.bar.style.setProperty('--_least', row.used > 0 ? '4px' : '0');
      const position = this.#list.children[seen.size] ?? null;
      if (position !== item.li) this.#list.insertBefore(item.li, position);
      seen.add(row.key);
    }
    for (const [key, { li }] of this.#items) {
      if (seen.has(key)) continue;
      li.remove();
      this.#items.delete(key);
    }
  }

  #item(key) {
    let item = this.#items.get(key);
    if (!item) {
      const li = document.createElement('li');
      const [name, bar, fill, value] = ['span', 'span', 'span', 'span'].map((tag) => document.createElement(tag));
      [name.className, bar.className, fill.className, value.className] = ['name', 'bar', 'fill', 'value'];
      bar.setAttribute('aria-hidden', 'true');
      bar.append(fill);
      li.append(name, bar, value);
      item = { li, name, bar, value };
      this.#items.set(key, item);
    }
    return item;
  }
}
