// Code generated from src by go generate ./proxy/browser; DO NOT EDIT.

// react-provider.js is the part of react.js that needs no elements.


// src/react/provider.js
import { createContext, createElement, useContext, useEffect, useInsertionEffect, useMemo, useRef, useState, useSyncExternalStore } from "react";
import { createUsageClient } from "./client.js";

// src/react/store.js
var NOTHING = { usage: null, problem: null, connection: "idle", client: null, canSend: () => true };
var Store = class {
  #last = NOTHING;
  constructor(client) {
    this.client = client;
  }
  subscribe = (changed) => {
    const { client } = this;
    if (!client) return () => {
    };
    const unsubscribe = client.subscribe(changed);
    client.addEventListener("connection", changed);
    return () => {
      unsubscribe();
      client.removeEventListener("connection", changed);
    };
  };
  read = () => {
    const { client } = this;
    if (!client) return NOTHING;
    const { current: usage, problem, connection } = client;
    const last = this.#last;
    if (last.client !== client || last.usage !== usage || last.problem !== problem || last.connection !== connection) {
      this.#last = { usage, problem, connection, client, canSend: (endpoint) => client.canSend(endpoint) };
    }
    return this.#last;
  };
  readOnServer = () => NOTHING;
};

// src/react/provider.js
var StoreContext = createContext(null);
function UsageProvider({ client, baseUrl, getToken, credentials, children }) {
  const lastGetToken = useRef(getToken);
  useInsertionEffect(() => {
    lastGetToken.current = getToken;
  });
  const [own, setOwn] = useState(null);
  const base = baseUrl === void 0 ? void 0 : String(baseUrl);
  const hasToken = Boolean(getToken);
  useEffect(() => {
    if (client) return void 0;
    const made = createUsageClient({
      baseUrl: base,
      credentials,
      getToken: hasToken ? (options) => lastGetToken.current?.(options) : void 0
    });
    setOwn(made);
    return () => made.close();
  }, [client, base, credentials, hasToken]);
  const followed = client ?? own;
  const store = useMemo(() => new Store(followed), [followed]);
  return createElement(StoreContext.Provider, { value: store }, children);
}
var MISSING = Object.assign(new Store(null), {
  read() {
    throw new Error("useUsage and the components of react.js need a <UsageProvider> around them");
  }
});
function useUsage() {
  const { subscribe, read, readOnServer } = useContext(StoreContext) ?? MISSING;
  return useSyncExternalStore(subscribe, read, readOnServer);
}

// src/react/component.js
import { createElement as createElement2, forwardRef, useContext as useContext2, useEffect as useEffect2, useImperativeHandle, useLayoutEffect, useRef as useRef2, useSyncExternalStore as useSyncExternalStore2 } from "react";
var useCommitEffect = typeof document === "undefined" ? useEffect2 : useLayoutEffect;
var ATTRIBUTES = { label: "label", compact: "compact", theme: "theme", price: "price", days: "days", upgradeUrl: "upgrade-url" };
var EVENTS = { onUpgrade: "upgrade", onClose: "close" };
var never = () => () => {
};
function componentOf(tag, name) {
  function render({ client: given, messages, className, children, ...props }, ref) {
    const store = useContext2(StoreContext) ?? (given ? null : MISSING);
    const shared = useSyncExternalStore2(never, () => store?.read().client ?? null, () => null);
    const client = given ?? shared;
    const element = useRef2(null);
    const shown = Boolean(client);
    useImperativeHandle(ref, () => element.current, [shown]);
    const rest = { ...props };
    for (const prop of [...Object.keys(ATTRIBUTES), ...Object.keys(EVENTS)]) delete rest[prop];
    useCommitEffect(() => {
      if (shown) setProperties(element.current, { client, messages });
    }, [shown, client, messages]);
    useCommitEffect(() => {
      if (shown) setAttributes(element.current, props);
    });
    useCommitEffect(() => shown ? listen(element.current, props) : void 0);
    return shown ? createElement2(tag, { ...rest, class: className, ref: element }, children) : null;
  }
  render.displayName = name;
  return forwardRef(render);
}
function setProperties(node, { client, messages }) {
  if (node.client !== client) node.client = client;
  if (messages) node.messages = messages;
}
function setAttributes(node, props) {
  for (const [prop, attribute] of Object.entries(ATTRIBUTES)) {
    const value = props[prop] === true ? "" : props[prop];
    if (value === void 0 || value === null || value === false) node.removeAttribute(attribute);
    else if (node.getAttribute(attribute) !== String(value)) node.setAttribute(attribute, value);
  }
}
function listen(node, props) {
  const end = new AbortController();
  for (const [prop, type] of Object.entries(EVENTS)) if (props[prop]) node.addEventListener(type, props[prop], { signal: end.signal });
  return () => end.abort();
}
export {
  UsageProvider,
  componentOf,
  useUsage
};
