import { sheetsOf } from '../elements.js';
import { svgNode } from './drawing.js';
import { STYLE } from './style.js';

/**
 * Builds the nodes of a chart in the element's shadow root.
 * @param {HTMLElement} element
 * @returns {Record<string, any>} the nodes that change, by name
 */
export function buildNodes(element) {
  const root = element.shadowRoot ?? element.attachShadow({ mode: 'open' });
  root.adoptedStyleSheets = sheetsOf(STYLE);
  const ui = {};
  const bare = (tag, className, ...children) => {
    const node = document.createElement(tag);
    if (className) node.className = className;
    node.append(...children);
    return node;
  };
  /** Makes a node that is kept under its class and is a part of that name. */
  const part = (tag, name, ...children) => {
    const node = bare(tag, name, ...children);
    node.setAttribute('part', name);
    ui[name] = node;
    return node;
  };
  ui.drawing = svgNode('svg', { 'aria-hidden': 'true' });
  const card = part('div', 'card',
    part('p', 'label'),
    (ui.figures = bare('p', 'figures', part('span', 'count', part('span', 'total'), ' ', part('span', 'unit')), part('span', 'when'))),
    part('div', 'plot', ui.drawing),
    part('p', 'notice'),
    part('ul', 'legend'),
    part('p', 'forecast', bare('span', 'dot'), (ui.forecastText = document.createTextNode(''))),
  );
  // Screen readers get the numbers as a table.
  ui.summary = bare('p', '');
  ui.table = bare('table', '');
  ui.behind = bare('div', 'spoken', ui.summary, ui.table);
  [ui.label.id, ui.summary.id] = ['label', 'summary'];
  for (const [name, value] of Object.entries({ role: 'group', 'aria-labelledby': 'label', 'aria-describedby': 'summary' })) card.setAttribute(name, value);
  card.append(ui.behind);
  root.append(card);
  return ui;
}
