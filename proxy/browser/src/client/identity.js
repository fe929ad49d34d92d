/** Claims that differ between two tokens that mean the same. */
const VOLATILE_CLAIMS = new Set([
  'exp', 'iat', 'nbf', 'jti', 'auth_time', 'nonce', 'sid', 'at_hash', 'c_hash',
  'session_state', 'uti', 'rh', 'aio',
]);

/**
 * Says whom a token speaks for, without verifying it. Two tokens with the same key get
 * the same answers from the gateway. Claims other than the subject may choose the plan,
 * so all claims go into the key except those that differ from token to token.
 * @param {string | null} token
 * @returns {{ key: string, user: string | null }} user is null if it is not known
 */
export function identify(token) {
  if (!token) return { key: 'none', user: '' };
  try {
    const payload = token.split('.')[1].replaceAll('-', '+').replaceAll('_', '/');
    const bytes = Uint8Array.from(atob(payload), (c) => c.charCodeAt(0));
    const claims = JSON.parse(new TextDecoder().decode(bytes));
    const lasting = Object.keys(claims).filter((name) => !VOLATILE_CLAIMS.has(name)).sort();
    const key = `jwt-${hash(JSON.stringify(lasting.map((name) => [name, claims[name]])))}`;
    return { key, user: typeof claims.sub === 'string' ? claims.sub : null };
  } catch {
    return { key: `opaque-${hash(token)}`, user: null };
  }
}

/**
 * A short name for a text: FNV-1a, in two variants.
 * @param {string} text
 */
function hash(text) {
  let [a, b] = [0x811c9dc5, 0x1000193];
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    a = Math.imul(a ^ c, 0x01000193);
    b = Math.imul(b ^ c ^ (a >>> 13), 0x5bd1e995);
  }
  return (a >>> 0).toString(36) + (b >>> 0).toString(36);
}
