// Code generated from src by go generate ./proxy/browser; DO NOT EDIT.

// react-provider.js is the part of react.js that needs no elements.


// src/react/provider.js
import { createContext, createElement, useContext, useEffect, useInsertionEffect, useMemo, useRef, useState, useSyncExternalStore } from "react";
import { createUsageClient } from "./client.js";

// src/react/store.js
var NOTHING = { usage: null, problem: null, connection: "idle", client: null, canSend: () => true };
var readOnServer = () => NOTHING;
function createStore(client) {
  let last = NOTHING;
  return {
    subscribe(changed) {
      if (!client) return () => {
      };
      const unsubscribe = client.subscribe(changed);
      client.addEventListener("connection", changed);
      return () => {
        unsubscribe();
        client.removeEventListener("connection", changed);
      };
    },
    read() {
      if (!client) return NOTHING;
      const { current: usage, problem, connection } = client;
      if (last === NOTHING || last.usage !== usage || last.problem !== problem || last.connection !== connection) {
        last = { usage, problem, connection, client, canSend: (endpoint) => client.canSend(endpoint) };
      }
      return last;
    }
  };
}

// src/react/provider.js
var StoreContext = createContext(null);
function UsageProvider({ client, baseUrl, getToken, credentials, children }) {
  const lastGetToken = useRef(getToken);
  useInsertionEffect(() => {
    lastGetToken.current = getToken;
  });
  const [own, setOwn] = useState(null);
  const base = baseUrl && String(baseUrl);
  const hasToken = Boolean(getToken);
  useEffect(() => {
    if (client) return;
    const made = createUsageClient({
      baseUrl: base,
      credentials,
      getToken: hasToken ? (options) => lastGetToken.current?.(options) : void 0
    });
    setOwn(made);
    return () => made.close();
  }, [client, base, credentials, hasToken]);
  const followed = client ?? own;
  const store = useMemo(() => createStore(followed), [followed]);
  return createElement(StoreContext.Provider, { value: store }, children);
}
var MISSING = {
  ...createStore(null),
  read() {
    throw new Error("put a <UsageProvider> around this component");
  }
};
function useUsage() {
  const { subscribe, read } = useContext(StoreContext) ?? MISSING;
  return useSyncExternalStore(subscribe, read, readOnServer);
}
export {
  MISSING,
  StoreContext,
  UsageProvider,
  useUsage
};
