/** @typedef {import('../../client.d.ts').Usage} Usage */

/**
 * Whom the gateway counts for, and by which plan. Only a usage object says it: which claims
 * of a token hold the user and the plan is the gateway's configuration.
 * @typedef {{ user: string, org: string | null, plan: string }} Identity
 */

/** @param {Usage & { org?: string }} usage @returns {Identity} */
export function identityOf({ user, org = null, plan }) {
  return { user, org, plan };
}

/** Reports whether both have the same counts. @param {Identity} a @param {Identity} b */
export function sameUser(a, b) {
  return a.user === b.user && a.org === b.org;
}

/** Reports whether both have the same counts and limits. @param {Identity} a @param {Identity} b */
export function sameIdentity(a, b) {
  return sameUser(a, b) && a.plan === b.plan;
}

/**
 * Reports whether a new token is certainly of the same user as a known one, whose user the
 * gateway has named. So the numbers can stay while the gateway is asked about the new token.
 *
 * The gateway takes the user, and the organisation, from claims in fixed places. Where these
 * places are is not known here, but each is one of those where the known token has the value.
 * If the new token has it in all of them, it has it in the right one.
 * @param {Identity} identity that the gateway has named for the known token
 * @param {string | null} known
 * @param {string | null} token
 */
export function isRefreshOf({ user, org }, known, token) {
  if (known === token) return true;
  const [before, after] = [textClaims(known), textClaims(token)];
  return [user, org].every((value) => {
    if (value === null) return true;
    const places = [...before].filter(([, text]) => text === value);
    return places.length > 0 && places.every(([place]) => after.get(place) === value);
  });
}

/**
 * Returns the texts in a token's claims by their places. The token is not verified.
 * @param {string | null} token
 * @returns {Map<string, string>} empty if the token cannot be read
 */
function textClaims(token) {
  const texts = new Map();
  const collect = (value, path) => {
    if (typeof value === 'string') texts.set(JSON.stringify(path), value);
    else if (value && typeof value === 'object') {
      for (const name of Object.keys(value)) collect(value[name], [...path, name]);
    }
  };
  try {
    const payload = (token ?? '').split('.')[1].replaceAll('-', '+').replaceAll('_', '/');
    const bytes = Uint8Array.from(atob(payload), (c) => c.charCodeAt(0));
    collect(JSON.parse(new TextDecoder().decode(bytes)), []);
  } catch {
    texts.clear();
  }
  return texts;
}
