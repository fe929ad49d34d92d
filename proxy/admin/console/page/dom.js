// How the console makes elements. Everything that comes from the gateway becomes text, never HTML:
// users choose their own ids.

/** Makes an element. Properties that are functions become event listeners. */
export function h(tag, properties, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined) continue;
    if (typeof value === 'function') element.addEventListener(name, value);
    else if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/**
 * A place in the page whose content depends on data. It is made again only when the data have changed,
 * so that what has the focus stays, and what is open stays open.
 */
export function slot(element, render) {
  let last;
  return Object.assign(element, {
    show(data) {
      const key = JSON.stringify(data);
      if (key === last) return;
      last = key;
      const focused = element.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
      element.replaceChildren(...[render(data)].flat(Infinity).filter(Boolean));
      if (focused) [...element.querySelectorAll('[data-key]')].find((e) => e.dataset.key === focused)?.focus();
    },
  });
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
  box.label = label;
  return box;
}

const resized = new ResizeObserver((entries) => {
  for (const box of new Set(entries.map(({ target }) => target.closest('.scroll')))) {
    if (!box) continue;
    const scrolls = box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight;
    for (const [name, value] of [['tabindex', '0'], ['role', 'group'], ['aria-label', box.label]]) {
      if (scrolls) box.setAttribute(name, value);
      else box.removeAttribute(name);
    }
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
  const button = h('button', { type: 'button', className: 'button small', click: () => copy(shown, text) }, 'Copy');
  return h('div', { className: 'copy' }, shown, button);
}

async function copy(shown, text) {
  try {
    await navigator.clipboard.writeText(text);
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
