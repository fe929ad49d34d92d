/** The list of endpoints, and of the limits over other windows than the headline limit's. */
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
   * @param {typeof import('./messages.js').MESSAGES} messages
   */
  static rows(state, messages) {
    // The limit of an endpoint may be on units; so are then its numbers.
    const rows = Object.entries(state.endpoints).map(([name, e]) => (
      { key: `endpoint ${name}`, name, ...e, used: e.unit === 'units' ? e.units : e.used }));
    for (const l of state.limits) {
      if (l.per === state.period.per) continue; // the big number or an endpoint shows it
      const status = l.used >= l.limit && !l.soft ? 'blocked' : 'ok';
      rows.push({ key: `limit ${l.name}`, name: messages.perWindow(l.endpoint, l.per), used: l.used, limit: l.limit, status });
    }
    return rows;
  }

  /**
   * @param {ReturnType<typeof Breakdown.rows>} rows
   * @param {number} total the share of a row without a limit is one of this
   * @param {typeof import('./messages.js').MESSAGES} messages
   * @param {import('./locale.js').Locale} locale
   */
  show(rows, total, messages, locale) {
    const seen = new Set();
    for (const row of rows) {
      const item = this.#item(row.key);
      const limited = row.limit !== undefined;
      item.li.className = row.status ?? '';
      item.name.textContent = row.name;
      item.value.textContent = limited ? messages.of(locale.number(row.used), locale.number(row.limit)) : locale.number(row.used);
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
