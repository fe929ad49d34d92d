const warned = new Set();

/**
 * The texts of a language with those of the page in their place. The page may give a string for a
 * function and a function for a string, and undefined for what it leaves alone.
 * @param {Record<string, any>} texts all of a language
 * @param {Record<string, any>} own
 * @returns {any} all, each of the kind that it has in texts
 */
export function withOwnTexts(texts, own) {
  const all = { ...texts };
  for (const [name, text] of Object.entries(own)) {
    if (!Object.hasOwn(texts, name)) warnOnce(name);
    else if (text !== undefined && text !== null) {
      const say = typeof text === 'function' ? (...values) => String(text(...values) ?? '') : () => String(text);
      all[name] = typeof texts[name] === 'function' ? say : say();
    }
  }
  return all;
}

function warnOnce(name) {
  if (warned.has(name)) return;
  warned.add(name);
  console.warn(`metergate: the elements have no text "${name}", so it is not used. docs/texts.md of Metergate lists the names that messages may have.`);
}
