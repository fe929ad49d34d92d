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

/** The absolute form of a URL that a link may lead to; null: a link may not lead there. */
export function webURL(text) {
  if (!text) return null;
  try {
    const url = new URL(text, document.baseURI);
    return /^https?:$/.test(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

/**
 * For assistive technology. A meter needs a range: without one the bar is decoration.
 * @param {Element} bar
 * @param {{ label: string, now: number, max: number, text: string } | null} values
 */
export function describeMeter(bar, values) {
  for (const [name, value] of Object.entries({
    role: values && 'meter',
    'aria-hidden': values ? null : 'true',
    'aria-label': values?.label,
    'aria-valuemin': values && '0',
    'aria-valuemax': values?.max,
    'aria-valuenow': values?.now,
    'aria-valuetext': values?.text,
  })) reflect(bar, name, value);
}

/**
 * Leads the link of an element to where the user gets more, or hides it.
 * @param {HTMLElement} element its attribute upgrade-url comes first
 * @param {HTMLAnchorElement} link
 * @param {import('../../client.d.ts').UsageState | null} state
 * @returns {boolean} whether it leads somewhere
 */
export function leadToUpgrade(element, link, state) {
  const url = webURL(element.getAttribute('upgrade-url') ?? state?.refused?.upgrade_url ?? state?.upgrade_url);
  reflect(link, 'href', url);
  link.hidden = !url;
  return Boolean(url);
}

/**
 * Tells the page that the user asks for more, and leaves the link alone if the page says so.
 * @param {HTMLElement} element
 * @param {Event} click on a link
 * @param {import('../../client.d.ts').UsageState | null} state
 * @returns {boolean} whether the link opens
 */
export function dispatchUpgrade(element, click, state) {
  const detail = { url: click.currentTarget.href, state };
  const opens = element.dispatchEvent(new CustomEvent('upgrade', { detail, bubbles: true, composed: true, cancelable: true }));
  if (!opens) click.preventDefault();
  return opens;
}

/** Has a screen reader speak. @param {Element} region @param {string} words */
export function speak(region, words) {
  // The same words twice would not be spoken twice.
  region.textContent = region.textContent === words ? `${words}\u00a0` : words;
}
