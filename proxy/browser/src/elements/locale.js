const formats = new Map();

/** A format of Intl, made once. */
function formatOf(Kind, locale, options) {
  const key = `${Kind.name} ${locale} ${JSON.stringify(options)}`;
  if (!formats.has(key)) {
    formats.set(key, new Kind(locale, options));
  }
  return formats.get(key);
}

/** The lang attribute nearest to an element, also around the components that it is in. */
function nearestLang(element) {
  for (let root = element; root; root = root.getRootNode().host) {
    const { lang } = root.closest('[lang]') ?? {};
    if (lang !== undefined) return lang;
  }
  return '';
}

/** A language as Intl takes it, also of de_DE; of what is not a language, English. */
function tagOf(lang) {
  const tag = lang.replaceAll('_', '-');
  try {
    Intl.getCanonicalLocales(tag);
    return tag;
  } catch {
    return 'en';
  }
}

/** A number as the user's language writes it. */
class Count {
  /** @param {number} value @param {string} text */
  constructor(value, text) {
    this.value = value;
    this.text = text;
  }

  toString() { return this.text; }
}

/** Numbers and dates in the language of an element. */
export class Locale {
  #element;

  /** @param {Element} element */
  constructor(element) {
    this.#element = element;
  }

  /** The language with its region, for Intl: that of the page, or else English. */
  get tag() {
    const lang = nearestLang(this.#element);
    if (lang) return tagOf(lang);
    const own = globalThis.navigator?.language ?? '';
    return /^en\b/.test(own) ? own : 'en';
  }

  /** The language alone, such as de. */
  get language() { return this.tag.toLowerCase().split('-')[0]; }

  /** @param {number} n */
  count(n) { return new Count(n, formatOf(Intl.NumberFormat, this.tag, {}).format(n)); }

  /** @param {number} n @param {Intl.NumberFormatOptions} [options] */
  number(n, options = {}) { return formatOf(Intl.NumberFormat, this.tag, options).format(n); }

  /** @param {Date} date @param {Intl.DateTimeFormatOptions} options */
  formatDate(date, options) {
    const format = formatOf(Intl.DateTimeFormat, this.tag, options);
    if (this.language !== 'fr') return format.format(date);
    // Intl does not know that the first of a month is "1er".
    return format.formatToParts(date).map(({ type, value }) => (type === 'day' && value === '1' ? '1er' : value)).join('');
  }

  /**
   * The day, and the time unless that is midnight here.
   * @param {string} iso
   * @param {boolean} [clock] only the time, if it is today
   */
  date(iso, clock = false) {
    const date = new Date(iso);
    const now = new Date();
    const time = { hour: 'numeric', minute: '2-digit' };
    const day = { day: 'numeric', month: 'long', ...(date.getFullYear() !== now.getFullYear() && { year: 'numeric' }) };
    const today = date.toDateString() === now.toDateString();
    const midnight = date.getHours() === 0 && date.getMinutes() === 0;
    return this.formatDate(date, today && (clock || !midnight) ? time : midnight ? day : { ...day, ...time });
  }
}

const followers = new Set();
let observer;

/**
 * Calls fn when a lang attribute of the page changes, as when the user chooses a language.
 * @param {() => void} fn
 * @returns {() => void} ends it
 */
export function followLanguage(fn) {
  observer ??= new MutationObserver(() => {
    for (const follower of [...followers]) follower();
  });
  if (!followers.size) observer.observe(document, { subtree: true, attributeFilter: ['lang'] });
  followers.add(fn);
  return () => {
    followers.delete(fn);
    if (!followers.size) observer.disconnect();
  };
}
