/** @typedef {{ value: number, toString: () => string }} Count a number as the user's language writes it */

/**
 * Makes a function that chooses the form of a word that a number needs.
 * @param {string} language
 */
export function plurals(language) {
  const rules = new Intl.PluralRules(language);
  /** @param {Count | undefined} n without a number: other @param {Record<string, string>} forms */
  return (n, forms) => (n && forms[rules.select(n.value)]) ?? forms.other;
}

/** Joins what there is of some words. @param {any[]} words */
export const words = (...words) => words.filter((word) => word && String(word)).join(' ');

/** @param {string} text */
export const capital = (text) => text.slice(0, 1).toUpperCase() + text.slice(1);
