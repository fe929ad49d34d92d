/**
 * Sets an attribute; null and undefined remove it.
 * @param {Element} element
 * @param {string} name
 * @param {any} value
 */
export function reflect(element, name, value) {
  if (value === null || value === undefined) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

/** Sets the text of a node and shows it. */
export function showText(node, text) {
  node.textContent = text;
  node.hidden = false;
}

/** A URL that a link may lead to, absolute; null: it is none. */
export function webURL(text) {
  if (!text) return null;
  try {
    const url = new URL(text, document.baseURI);
    return /^https?:$/.test(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}
