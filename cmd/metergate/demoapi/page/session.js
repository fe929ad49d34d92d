// Who is signed in. A front end of your own has this already: it needs a function that returns the
// user's token, and calls usage.refresh() when somebody has signed in or out.

/** @type {Map<string, { name: string, plan: string, about: string, token: string }>} */
let users = new Map();
let user = null; // name of the one who is signed in
let loading = null;

export const allUsers = () => [...users.values()];
export const currentUser = () => user;
export const isUser = (name) => users.has(name);
export const chooseUser = (name) => { user = name; };

/** Loads the users and their tokens. A restarted demo has different tokens. */
export function loadUsers() {
  loading ??= (async () => {
    try {
      const response = await fetch('/demo/users.json', { cache: 'no-store' });
      if (!response.ok) throw new Error(`/demo/users.json: ${response.status}`);
      users = new Map((await response.json()).map((u) => [u.name, u]));
    } finally {
      loading = null;
    }
  })();
  return loading;
}

/** The token of the user who is signed in. refresh: the last one was refused, or has expired. */
export async function currentToken({ refresh }) {
  if (refresh || !users.size) await loadUsers();
  user ??= isUser(location.hash.slice(1)) ? location.hash.slice(1) : [...users.keys()][0];
  return users.get(user)?.token ?? null;
}
