import { identityClaims, identityOf } from './identity.js';
import { isUsage } from './numbers.js';

/** @typedef {import('./core.js').Core} Core */

// A page that is loaded again while the gateway does not answer shows the last numbers. They are kept in
// the tab's own storage, and only where the token tells whose they are. A page may not have storage, or it
// may be full: then nothing is kept.

/** @param {Core} core */
const keyOf = ({ base }) => `metergate-usage ${base.href}`;

/** Keeps the numbers of the present user. @param {Core} core */
export function keepNumbers(core) {
  const { state: { numbers: { usage } }, tabs: { session } } = core;
  const claims = session?.identity && identityClaims(session.identity, session.token);
  if (!usage || !claims) return;
  try {
    sessionStorage.setItem(keyOf(core), JSON.stringify({ claims, usage }));
  } catch { /* see above */ }
}

/**
 * Returns what was kept for the user of a token, and forgets what is another's.
 * @param {Core} core @param {string | null} token
 * @returns {import('../../client.d.ts').Usage | null}
 */
export function keptNumbers(core, token) {
  try {
    const { claims, usage } = JSON.parse(sessionStorage.getItem(keyOf(core)) ?? '');
    if (isUsage(usage) && claims && claims === identityClaims(identityOf(usage), token)) return usage;
  } catch { /* see above */ }
  dropKeptNumbers(core);
  return null;
}

/** @param {Core} core */
export function dropKeptNumbers(core) {
  try {
    sessionStorage.removeItem(keyOf(core));
  } catch { /* see above */ }
}
