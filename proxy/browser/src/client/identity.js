/**
 * Whom the gateway counts for, and by which plan. Only a usage object says it: which claims
 * of a token hold the user and the plan is the gateway's configuration.
 * @typedef {Pick<import('../../client.d.ts').Usage, 'user' | 'org' | 'plan'>} Identity
 */

/** Reports whether both have the same counts. @param {Identity} a @param {Identity} [b] */
export const sameUser = (a, b) => a.user === b?.user && a.org === b.org;

/** The places of claims that tell people and organisations apart, whatever the gateway makes of them. */
const TELLING = /^\/(sub|iss|o\/.*)$|org|tenant/i;

/**
 * Returns what a token says about who its user is, as text; null: not enough. Two tokens with the same
 * text are certainly of the same user, whatever else they claim. So the numbers can stay when a token
 * is refreshed.
 *
 * The gateway takes the user, and the organisation, from claims in fixed places. Where these places
 * are is not known here, but each is one of those where a token has the value. If another token has
 * it in all of them, it has it in the right one.
 * @param {Identity | null} identity that the gateway has named for one of the tokens; null: none so far, then
 *   the user is the subject
 * @param {string | null} token
 */
export function identityClaims(identity, token) {
  const claims = readClaims(token);
  const { user, org } = identity ?? { user: claims.get('/sub') };
  // A name that happens to be the subject may change.
  const values = [claims.get('/sub') === user ? undefined : user, org];
  const telling = [...claims].filter(([place, value]) => TELLING.test(place) || values.includes(value));
  return [user, org ?? user].every((value) => telling.some((claim) => claim[1] === value)) ? JSON.stringify(telling.sort()) : null;
}

/**
 * Reports whether a new token is certainly of the same user as a known one.
 * @param {Identity | null} identity see identityClaims
 * @param {string | null} known
 * @param {string | null} token
 */
export function isRefreshOf(identity, known, token) {
  const claims = identityClaims(identity, known);
  return claims && claims === identityClaims(identity, token);
}

/**
 * Returns the texts and numbers in a token's claims by their places, such as /sub. The token is not
 * verified.
 * @param {string | null} token
 * @returns {Map<string, string>} empty if the token cannot be read
 */
function readClaims(token) {
  const claims = new Map();
  /** @param {any} value @param {string} place */
  const collect = (value, place) => {
    if (typeof value !== 'object') claims.set(place, String(value));
    else for (const name in value) collect(value[name], `${place}/${name}`);
  };
  try {
    const payload = /** @type {string} */ (token).split('.')[1].replaceAll('-', '+').replaceAll('_', '/');
    const bytes = Uint8Array.from(atob(payload), (c) => c.charCodeAt(0));
    collect(JSON.parse(new TextDecoder().decode(bytes)), '');
  } catch { /* no token, or not a JWT */ }
  return claims;
}
