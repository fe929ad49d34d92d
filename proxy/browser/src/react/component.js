import { createElement, forwardRef, useContext, useEffect, useImperativeHandle, useLayoutEffect, useRef, useSyncExternalStore } from 'react';
import { MISSING, StoreContext } from '../react-provider.js';

// On a server, React 18 warns of useLayoutEffect.
const useCommitEffect = typeof document === 'undefined' ? useEffect : useLayoutEffect;

/** The props that become attributes. */
const ATTRIBUTES = { label: 'label', compact: 'compact', theme: 'theme', price: 'price', days: 'days', upgradeUrl: 'upgrade-url' };
const EVENTS = { onUpgrade: 'upgrade', onClose: 'close' };

const never = () => () => {};

/**
 * Makes a component of a custom element. React 18 sets only attributes of such elements, and as text;
 * React 19 sets properties where it finds them. So the component sets them by itself, in both.
 * @param {string} tag
 * @param {string} name of the component, for React's tools
 */
export function componentOf(tag, name) {
  /** @param {any} props @param {import('react').Ref<HTMLElement>} ref */
  function render({ client: given, messages, className, children, ...props }, ref) {
    const store = useContext(StoreContext) ?? (given ? null : MISSING);
    const shared = useSyncExternalStore(never, () => store?.read().client ?? null, () => null);
    const client = given ?? shared;
    const element = useRef(/** @type {any} */ (null));
    const shown = Boolean(client);
    // Whether it was given messages the last time.
    const replaced = useRef(false);
    useImperativeHandle(ref, () => element.current, [shown]);

    const rest = { ...props };
    for (const prop of [...Object.keys(ATTRIBUTES), ...Object.keys(EVENTS)]) delete rest[prop];
    useCommitEffect(() => {
      // At once: an element without a client makes one of its own in a microtask.
      if (shown) setProperties(element.current, { client, messages, replaced });
    }, [shown, client, messages]);
    useCommitEffect(() => {
      if (shown) setAttributes(element.current, props);
    });
    useCommitEffect(() => (shown ? listen(element.current, props) : undefined));
    return shown ? createElement(tag, { ...rest, class: className, ref: element }, children) : null;
  }
  render.displayName = name;
  return forwardRef(render);
}

/** @param {any} node @param {Record<string, any>} properties */
function setProperties(node, { client, messages, replaced }) {
  if (node.client !== client) node.client = client;
  if (messages || replaced.current) node.messages = messages ?? null;
  replaced.current = Boolean(messages);
}

/** @param {HTMLElement} node @param {Record<string, any>} props */
function setAttributes(node, props) {
  for (const [prop, attribute] of Object.entries(ATTRIBUTES)) {
    const value = props[prop] === true ? '' : props[prop];
    if (value === undefined || value === null || value === false) node.removeAttribute(attribute);
    else if (node.getAttribute(attribute) !== String(value)) node.setAttribute(attribute, value);
  }
}

/** @param {HTMLElement} node @param {Record<string, any>} props */
function listen(node, props) {
  const end = new AbortController();
  for (const [prop, type] of Object.entries(EVENTS)) if (props[prop]) node.addEventListener(type, props[prop], { signal: end.signal });
  return () => end.abort();
}
