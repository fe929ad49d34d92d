/**
 * Fills the table that screen readers read in place of the drawing: a row for each day, a
 * column for each endpoint.
 * @param {HTMLTableElement} table
 * @param {import('./data.js').ChartData} data
 * @param {{ caption: string, titles: string[], date: (day: number) => string, number: (n: number) => string }} texts
 *   titles are those of the columns before the endpoints
 */
export function fillTable(table, { days, endpoints }, { caption, titles, date, number }) {
  const node = (tag, ...children) => {
    const element = document.createElement(tag);
    element.append(...children);
    return element;
  };
  const header = (scope, text) => {
    const th = node('th', text);
    th.scope = scope;
    return th;
  };
  table.replaceChildren(
    node('caption', caption),
    node('thead', node('tr', ...[...titles, ...endpoints].map((title) => header('col', title)))),
    node('tbody', ...days.map((day, i) => node('tr',
      header('row', date(i)),
      ...[day.total, ...endpoints.map((name) => day.endpoints[name] ?? 0)].map((n) => node('td', number(n))))))
  );
}
