// The address that the gateway serves client.js at. A pattern, because most bundlers take
// new URL('..', import.meta.url) for a file that the build must have.
const SERVED_AT = /^(https?:.*\/)usage\/client\.js(?:[?#]|$)/;

/** What a page's paths are relative to. A worker has no document, and a server has neither. */
export const pageURL = () => globalThis.document?.baseURI ?? globalThis.location?.href;

/**
 * Returns the gateway's address. Its path ends with a slash.
 * @param {string | URL} [baseUrl] default: where the gateway has served this file or, as in a
 *   bundle, the origin of the page
 * @returns {URL}
 */
export function gatewayBase(baseUrl) {
  const text = String(baseUrl ?? SERVED_AT.exec(import.meta.url)?.[1] ?? '/');
  try {
    const base = new URL(text || '/', pageURL() ?? 'http://server.invalid');
    // What lacks its scheme or its slash would quietly be a path below that of the page.
    if (!/^(https?:|[./]|$)/i.test(text) || !base.host) throw null;
    if (!base.pathname.endsWith('/')) base.pathname += '/';
    base.search = base.hash = '';
    return base;
  } catch {
    throw new Error(`baseUrl must be a URL or a path like /gateway, not "${text}"`);
  }
}
