// How the console makes elements. Everything that comes from the gateway becomes text, never HTML:
// users choose their own ids.

/** Makes an element. Properties that are functions become event listeners. */
export function h(tag, properties, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined) continue;
    if (typeof value === 'function') listen(element, name, value);
    else if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const listeners = new WeakMap(); // of each element, by the name of the event

/** Gives an element its listener, in place of the one it has. */
function listen(element, name, listener) {
  if (!listeners.has(element)) listeners.set(element, {});
  const own = listeners.get(element);
  if (!(name in own)) element.addEventListener(name, (event) => own[name]?.(event));
  own[name] = listener;
}

/** A place in the page whose content depends on data. What has not changed stays the same element. */
export function slot(element, render) {
  let last;
  return Object.assign(element, {
    show(data) {
      const key = JSON.stringify(data);
      if (key === last) return;
      last = key;
      patch(element, render(data));
    },
  });
}

/**
 * Makes the content of an element like what was rendered. Elements that fit stay, with their focus, selection
 * and scrolling, and what is open stays open. Among siblings, an element fits one of its kind with the same
 * data-key; a row of a table has the key of what is in it.
 */
export function patch(element, ...rendered) {
  const focused = element.contains(document.activeElement) ? document.activeElement : null;
  patchChildren(element, h('div', null, rendered).childNodes);
  if (focused?.isConnected && focused !== document.activeElement) focused.focus({ preventScroll: true }); // it was moved
}

function kindOf(node) {
  if (node.nodeType !== Node.ELEMENT_NODE) return node.nodeName;
  const key = node.dataset.key ?? (node.tagName === 'TR' ? node.querySelector('[data-key]')?.dataset.key : undefined);
  return JSON.stringify([node.tagName, node.classList[0], key]);
}

function patchChildren(element, wanted) {
  const before = Map.groupBy(element.childNodes, kindOf);
  const pairs = [...wanted].map((node) => [before.get(kindOf(node))?.shift(), node]);
  for (const node of [...before.values()].flat()) node.remove();
  let at = element.firstChild;
  for (const [old, node] of pairs) {
    if (old) patchNode(old, node);
    if (old && old === at) at = at.nextSibling;
    else element.insertBefore(old ?? node, at);
  }
}

/** Reports whether an attribute is of what a person, or the size of the page, has done to an element. */
const isOfPage = (element, name) => (element.tagName === 'DETAILS' ? name === 'open' : element.className === 'scroll' && scrollNames.includes(name));

function patchNode(old, node) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== node.data) old.data = node.data;
    return;
  }
  for (const { name } of [...old.attributes]) if (!node.hasAttribute(name) && !isOfPage(old, name)) old.removeAttribute(name);
  for (const { name, value } of node.attributes) {
    if (old.getAttribute(name) === value || isOfPage(old, name)) continue;
    if (name === 'style') old.style.cssText = value; // the page's policy allows no such attribute
    else old.setAttribute(name, value);
  }
  if (node.tagName === 'INPUT' && old.value !== node.value && old !== document.activeElement) old.value = node.value;
  const own = listeners.get(node) ?? {};
  for (const name of Object.keys({ ...listeners.get(old), ...own })) listen(old, name, own[name]);
  patchChildren(old, node.childNodes);
}

let ids = 0;
/** An id that no other element has. */
export const newID = () => `e${++ids}`;

/** A card with a heading. aside stands at the other end of the heading's line. */
export function card(title, properties, ...children) {
  const id = newID();
  const { aside, ...rest } = properties ?? {};
  return h('section', { className: 'card', 'aria-labelledby': id, ...rest },
    h('div', { className: 'head' }, h('h2', { id, tabIndex: -1 }, title), aside), ...children);
}

/** The heading of a view. */
export const heading = (title, ...about) => h('div', { className: 'title' }, h('h1', { tabIndex: -1 }, title), ...about);

export const badge = (tone, text) => h('span', { className: `badge ${tone}` }, text);

/** Lines that stand for what is being loaded. */
export const ghosts = (n = 4) => h('div', { className: 'ghosts', ariaBusy: 'true' },
  h('p', { className: 'hidden' }, 'Loading'), Array.from({ length: n }, () => h('div', { className: 'ghost' })));

export const empty = (title, text) => h('p', { className: 'empty' }, h('b', null, title), text);

/** Puts a word where something could not be loaded. */
export function endGhosts(within) {
  for (const lines of within.querySelectorAll('.ghosts')) lines.replaceWith(h('p', { className: 'empty' }, 'Not loaded'));
}

/** What went wrong, and a way to try again. */
export function failure(error, retry) {
  return h('div', { className: 'banner bad', role: 'alert' },
    h('p', null, error.message),
    error.faults?.length ? h('ul', null, error.faults.map((line) => h('li', null, line))) : null,
    retry ? h('button', { type: 'button', className: 'button small', click: retry }, 'Try again') : null);
}

/**
 * A table in a box of its own, which scrolls sideways where it must. numbers: the columns that are set to the
 * end. many: it needs more room than a phone has.
 */
export function table({ caption, head, rows, numbers = [], many = head.length > 4 }) {
  const cell = (tag) => (content, i) => {
    const element = content instanceof HTMLTableCellElement ? content : h(tag, tag === 'th' ? { scope: 'col' } : null, content);
    if (numbers.includes(i)) element.classList.add('number');
    return element;
  };
  return scrollBox(caption, h('table', { className: many ? 'many' : '' },
    h('caption', { className: 'hidden' }, caption),
    h('thead', null, h('tr', null, head.map(cell('th')))),
    h('tbody', null, rows.map((row) => h('tr', null, row.map(cell('td')))))));
}

/** A box that scrolls where its content is too large. Then it can have the focus, for the arrow keys. */
function scrollBox(label, content) {
  const box = h('div', { className: 'scroll' }, content);
  resized.observe(box);
  resized.observe(content);
  box.dataset.label = label;
  return box;
}

const scrollNames = ['tabindex', 'role', 'aria-label']; // of a box that scrolls

const resized = new ResizeObserver((entries) => {
  for (const box of new Set(entries.map(({ target }) => target.closest('.scroll')))) {
    if (!box) continue;
    const scrolls = box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight;
    const values = ['0', 'group', box.dataset.label];
    scrollNames.forEach((name, i) => {
      if (scrolls) box.setAttribute(name, values[i]);
      else box.removeAttribute(name);
    });
  }
});

/** A bar: parts are pairs of a share, 0 to 1, and a tone. The text beside it says the same. */
export function bar(...parts) {
  return h('span', { className: 'bar', ariaHidden: 'true' }, parts.map(([share, tone]) => {
    const part = h('i', { className: tone });
    part.style.setProperty('width', `${Math.max(0, Math.min(1, share || 0)) * 100}%`);
    return part;
  }));
}

/** Text to paste, with a button that copies it. */
export function snippet(text, label) {
  const shown = h('pre', { className: 'snippet', tabIndex: 0, role: 'group', ariaLabel: label }, text);
  const button = h('button', { type: 'button', className: 'button small', click: ({ currentTarget }) => copy(currentTarget.previousElementSibling) }, 'Copy');
  return h('div', { className: 'copy' }, shown, button);
}

async function copy(shown) {
  try {
    await navigator.clipboard.writeText(shown.textContent);
    say('Copied.');
  } catch { // browsers give the clipboard only to pages from HTTPS or this machine
    getSelection().selectAllChildren(shown);
    say(document.execCommand('copy') ? 'Copied.' : 'The text is selected. Copy it with Ctrl-C.');
  }
}

/** Tells people who hear the page what has happened, and shows it for a while. */
export function say(text) {
  document.getElementById('spoken').textContent = text;
  document.querySelector('.toast')?.remove();
  const toast = h('p', { className: 'toast', ariaHidden: 'true' }, text);
  document.body.append(toast);
  setTimeout(() => toast.remove(), 6000);
}
