import { createContext, createElement, useContext, useEffect, useInsertionEffect, useMemo, useRef, useState, useSyncExternalStore } from 'react';
import { createUsageClient } from '../client.js';
import { createStore, readOnServer } from './store.js';

/** @typedef {ReturnType<typeof createStore>} Store */

/** @type {import('react').Context<Store | null>} */
export const StoreContext = createContext(/** @type {Store | null} */ (null));

/**
 * Gives all components below it one client. getToken may be a new function in each render: the
 * client calls the last one.
 * @param {import('../../react.d.ts').UsageProviderProps} props
 */
export function UsageProvider({ client, baseUrl, getToken, credentials, children }) {
  const lastGetToken = useRef(getToken);
  // Before the effects of all components: one of them may refresh because somebody has signed in.
  useInsertionEffect(() => { lastGetToken.current = getToken; });

  const [own, setOwn] = useState(/** @type {import('../../client.d.ts').UsageClient | null} */ (null));
  const base = baseUrl && String(baseUrl);
  const hasToken = Boolean(getToken);
  useEffect(() => {
    if (client) return;
    const made = createUsageClient({
      baseUrl: base,
      credentials,
      getToken: hasToken ? (options) => lastGetToken.current?.(options) : undefined,
    });
    setOwn(made);
    return () => made.close();
  }, [client, base, credentials, hasToken]);

  const followed = client ?? own;
  const store = useMemo(() => createStore(followed), [followed]);
  return createElement(StoreContext.Provider, { value: store }, children);
}

/** Stands for the store where there is no provider. A server renders what it can. */
export const MISSING = {
  ...createStore(null),
  read() { throw new Error('put a <UsageProvider> around this component'); },
};

/** @returns {import('../../react.d.ts').UsageSnapshot} */
export function useUsage() {
  const { subscribe, read } = useContext(StoreContext) ?? MISSING;
  return useSyncExternalStore(subscribe, read, readOnServer);
}
