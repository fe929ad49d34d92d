import { svgNode, paint } from './drawing.js';

/** Names the colours, with a number beside each, and the line of the pace. */
export class Legend {
  #list;
  // The rows of the series, and the last row, which has the pace.
  #rows = [];
  #pace = null;

  /** @param {HTMLElement} list */
  constructor(list) {
    this.#list = list;
  }

  /** @param {import('./data.js').Series[]} series @param {Record<string, any>} messages */
  show(series, messages) {
    this.#rows = series.map(({ name, color }) => {
      const row = makeRow(svgNode('rect', { ...paint(color), x: 1, y: 1, width: 10, height: 10, rx: 2.5 }));
      row.name.textContent = name ?? messages.chartOther;
      return row;
    });
    this.#pace = makeRow(svgNode('line', { class: 'pace-line', x1: 0, x2: 12, y1: 6, y2: 6 }));
    this.#list.replaceChildren(...[...this.#rows, this.#pace].map(({ item }) => item));
    this.hidePace();
  }

  /** @param {string[]} values one for each of the series */
  setValues(values) {
    this.#rows.forEach(({ value }, i) => { value.textContent = values[i]; });
  }

  hidePace() { this.#pace.item.hidden = true; }

  /** @param {string} name @param {string} value @param {boolean} drawn whether its line is in the drawing */
  showPace(name, value, drawn) {
    const pace = this.#pace;
    pace.name.textContent = name;
    pace.value.textContent = value;
    pace.item.className = drawn ? 'pace' : 'pace undrawn';
    pace.item.hidden = false;
  }
}

function makeRow(mark) {
  const [item, name, value] = ['li', 'span', 'span'].map((tag) => document.createElement(tag));
  [name.className, value.className] = ['name', 'value'];
  item.append(svgNode('svg', { class: 'swatch', viewBox: '0 0 12 12', width: 12, height: 12, 'aria-hidden': 'true' }, mark), name, ' ', value);
  return { item, name, value };
}
