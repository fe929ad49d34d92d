import { sheetsOf } from '../elements.js';
import { STYLE } from './style.js';

/**
 * Builds the nodes of a meter in the element's shadow root.
 * @param {HTMLElement} element
 * @param {{ onUpgrade: (event: Event) => void, onSlotChange: () => void }} handlers
 * @returns {Record<string, any>} the nodes that change, by name
 */
export function buildNodes(element, { onUpgrade, onSlotChange }) {
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
  const text = (name) => (ui[name] = document.createTextNode(''));
  const time = (ui.time = document.createElement('time'));
  const button = part('a', 'upgrade-button', text('buttonText'));
  button.classList.add('button');
  button.target = '_blank';
  button.rel = 'noopener';
  button.addEventListener('click', onUpgrade);
  const slot = document.createElement('slot');
  slot.name = 'upgrade';
  slot.append(button);
  slot.addEventListener('slotchange', onSlotChange);
  ui.slot = slot;

  const card = part('div', 'card',
    (ui.head = bare('div', 'row', part('span', 'label'), part('span', 'plan'))),
    (ui.figures = bare('div', 'row figures',
      part('span', 'count', part('span', 'used'), part('span', 'limit')), part('span', 'remaining'))),
    part('div', 'bar', part('div', 'fill'), part('div', 'pending')),
    part('p', 'carried'),
    part('div', 'pool', bare('div', 'row', part('span', 'pool-label'), part('span', 'pool-count')), part('div', 'pool-bar', bare('div', 'fill')), part('p', 'pool-carried')),
    (ui.foot = bare('div', 'row foot',
      bare('span', '', part('span', 'status', bare('span', 'dot'), text('statusText')), part('span', 'reset', text('resetText'), ' ', time)),
      part('span', 'running', bare('span', 'dot'), text('runningText')))),
    part('p', 'price'),
    part('p', 'notice'),
    part('div', 'prompt', bare('div', '', part('p', 'prompt-title'), part('p', 'prompt-text')), slot),
    part('details', 'details', part('summary', 'summary'), part('ul', 'endpoints')),
  );
  // It stays in place and empty, because screen readers speak only what changes in it.
  const spoken = bare('div', 'spoken');
  spoken.setAttribute('role', 'status');
  ui.spoken = spoken;
  root.append(card, spoken);
  return ui;
}
