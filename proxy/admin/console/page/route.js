// The address of a view is in the hash, so that each can be linked to and loaded again.

/** @returns {{ view: string, ids: string[], query: URLSearchParams }} */
export function parseHash(hash) {
  const [path, search] = split(hash.replace(/^#\/?/, ''), '?');
  const query = new URLSearchParams(search);
  let parts;
  try {
    parts = path.split('/').map(decodeURIComponent);
  } catch { // a percent sign that encodes nothing
    return { view: 'missing', ids: [], query };
  }
  const [view, first, members, second] = parts;
  if (view === '') return { view: 'overview', ids: [], query };
  if (['overview', 'users', 'plans', 'upstreams'].includes(view) && parts.length === 1) return { view, ids: [], query };
  if (view === 'users' && parts.length === 2 && first) return { view: 'user', ids: ['', first], query };
  if (view === 'orgs' && parts.length === 2 && first) return { view: 'org', ids: [first, ''], query };
  if (view === 'orgs' && parts.length === 4 && members === 'members' && first && second) return { view: 'user', ids: [first, second], query };
  return { view: 'missing', ids: [], query };
}

function split(text, at) {
  const i = text.indexOf(at);
  return i < 0 ? [text, ''] : [text.slice(0, i), text.slice(i + 1)];
}

export const orgLink = (org) => `#/orgs/${encodeURIComponent(org)}`;
export const userLink = (org, user) => (org ? `${orgLink(org)}/members/${encodeURIComponent(user)}` : `#/users/${encodeURIComponent(user)}`);
export const usersLink = (query) => withQuery('#/users', query);

export function withQuery(path, query) {
  const text = new URLSearchParams(query).toString();
  return text ? `${path}?${text}` : path;
}

/** The path of an account in the admin API. */
export function accountPath(org, user) {
  const parts = [...(org ? ['orgs', org] : []), ...(user ? [org ? 'members' : 'users', user] : [])];
  return parts.map(encodeURIComponent).join('/');
}

/** Browsers take "." and ".." in a path as a folder, however they are written. */
export const isUnreachable = (id) => id === '.' || id === '..';
