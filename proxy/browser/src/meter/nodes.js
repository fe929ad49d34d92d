import { nodeBuilder, sheetsOf } from '../elements.js';
import { STYLE } from './style.js';

/**
 * Builds the nodes of a meter in the element's shadow root.
 * @param {HTMLElement} element
 * @param {{ onUpgrade: (event: Event) => void, onDismiss: () => void, onSlotChange: () => void }} handlers
 * @returns {Record<string, any>} the nodes that change, by name
 */
export function buildNodes(element, { onUpgrade, onDismiss, onSlotChange }) {
  const root = element.shadowRoot ?? element.attachShadow({ mode: 'open' });
  root.adoptedStyleSheets = sheetsOf(STYLE);
  const { ui, bare, part, text, spoken, upgradeSlot, cross } = nodeBuilder();
  const time = (ui.time = document.createElement('time'));
  const slot = upgradeSlot(onUpgrade);
  slot.addEventListener('slotchange', onSlotChange);

  const card = part('div', 'card',
    (ui.head = bare('div', 'row', part('span', 'label'), part('span', 'plan'))),
    (ui.figures = bare('div', 'row figures',
      part('span', 'count', part('span', 'used'), part('span', 'limit')), part('span', 'remaining'))),
    part('div', 'bar', part('div', 'fill'), part('div', 'pending')),
    part('p', 'carried'),
    part('div', 'pool', bare('div', 'row', part('span', 'pool-label'), part('span', 'pool-count')), part('div', 'pool-bar', bare('div', 'fill')), part('p', 'pool-carried')),
    (ui.foot = bare('div', 'row foot',
      bare('span', '',
        part('span', 'status', bare('span', 'dot'), text('statusText')),
        part('span', 'attention', bare('span', 'dot'), text('attentionText')),
        part('span', 'reset', text('resetText'), ' ', time)),
      part('span', 'running', bare('span', 'dot'), text('runningText')))),
    part('p', 'price'),
    part('p', 'notice'),
    part('div', 'prompt', bare('div', '', part('p', 'prompt-title'), part('p', 'prompt-text')), slot, cross(onDismiss)),
    part('details', 'details', part('summary', 'summary'), part('ul', 'endpoints')),
  );
  root.append(card, spoken());
  return ui;
}
