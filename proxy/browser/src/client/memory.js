import { identityClaims } from './identity.js';
import { isUsage } from './numbers.js';

/** @typedef {import('./core.js').Core} Core */

// A page that is loaded again while the gateway does not answer shows the last numbers. They are kept in
// the tab's own storage, and only where the token tells whose they are. A page may not have storage, or it
// may be full: then nothing is kept.

/** @param {Core} core @param {(storage: Storage, key: string) => any} use */
function withStorage({ base }, use) {
  try {
    return use(sessionStorage, `metergate-usage ${base.href}`);
  } catch {
    return null;
  }
}

/** Keeps the numbers of the present user. @param {Core} core */
export function keepNumbers(core) {
  const { session, usage } = core;
  const claims = session?.identity && identityClaims(session.identity, session.token);
  if (usage && claims) withStorage(core, (storage, key) => storage.setItem(key, JSON.stringify({ claims, usage })));
}

/**
 * Returns what was kept for the user of a token, and forgets what is another's. An
 * application may have no token yet when the page begins.
 * @param {Core} core @param {string | null} token
 * @returns {import('../../client.d.ts').Usage | null}
 */
export function keptNumbers(core, token) {
  const usage = withStorage(core, (storage, key) => {
    const { claims, usage } = JSON.parse(storage.getItem(key) ?? '');
    return isUsage(usage) && claims && claims === identityClaims(usage, token) && usage;
  });
  if (!usage && token) dropKeptNumbers(core);
  return usage;
}

/** @param {Core} core */
export function dropKeptNumbers(core) {
  withStorage(core, (storage, key) => storage.removeItem(key));
}
