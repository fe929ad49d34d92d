/** Makes nodes, and keeps those that change in ui, by name. */
export function nodeBuilder() {
  /** @type {Record<string, any>} */
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
  /** A region whose changes are spoken. It stays in place and empty, because only changes are. */
  const spoken = () => {
    ui.spoken = bare('div', 'spoken');
    ui.spoken.setAttribute('role', 'status');
    return ui.spoken;
  };
  /** The slot that holds the link for more, unless the page has something else there. */
  const upgradeSlot = (onUpgrade) => {
    const button = part('a', 'upgrade-button', text('buttonText'));
    button.classList.add('button');
    button.target = '_blank';
    button.rel = 'noopener';
    button.addEventListener('click', onUpgrade);
    ui.slot = bare('slot', '', button);
    ui.slot.name = 'upgrade';
    return ui.slot;
  };
  /** A cross that hides something. */
  const cross = (onClick) => {
    const button = part('button', 'dismiss');
    button.type = 'button';
    button.addEventListener('click', onClick);
    return button;
  };
  return { ui, bare, part, text, spoken, upgradeSlot, cross };
}
