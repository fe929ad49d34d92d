// Code generated from src by go generate ./proxy/browser; DO NOT EDIT.

// react-component.js is what the components of react.js share.


// src/react/component.js
import { createElement, forwardRef, useContext, useEffect, useImperativeHandle, useLayoutEffect, useRef, useSyncExternalStore } from "react";
import { MISSING, StoreContext } from "./react-provider.js";
var useCommitEffect = typeof document === "undefined" ? useEffect : useLayoutEffect;
var ATTRIBUTES = { label: "label", compact: "compact", theme: "theme", price: "price", days: "days", upgradeUrl: "upgrade-url" };
var EVENTS = { onUpgrade: "upgrade", onClose: "close" };
var never = () => () => {
};
function componentOf(tag, name) {
  function render({ client: given, messages, className, children, ...props }, ref) {
    const store = useContext(StoreContext) ?? (given ? null : MISSING);
    const shared = useSyncExternalStore(never, () => store?.read().client ?? null, () => null);
    const client = given ?? shared;
    const element = useRef(null);
    const shown = Boolean(client);
    const replaced = useRef(false);
    useImperativeHandle(ref, () => element.current, [shown]);
    const rest = { ...props };
    for (const prop of [...Object.keys(ATTRIBUTES), ...Object.keys(EVENTS)]) delete rest[prop];
    useCommitEffect(() => {
      if (shown) setProperties(element.current, { client, messages, replaced });
    }, [shown, client, messages]);
    useCommitEffect(() => {
      if (shown) setAttributes(element.current, props);
    });
    useCommitEffect(() => shown ? listen(element.current, props) : void 0);
    return shown ? createElement(tag, { ...rest, class: className, ref: element }, children) : null;
  }
  render.displayName = name;
  return forwardRef(render);
}
function setProperties(node, { client, messages, replaced }) {
  if (node.client !== client) node.client = client;
  if (messages || replaced.current) node.messages = messages ?? null;
  replaced.current = Boolean(messages);
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
  componentOf
};
