const formats = new Map();

function format(Kind, locale, options, value) {
  const key = `${Kind.name} ${locale} ${JSON.stringify(options)}`;
  if (!formats.has(key)) {
    let made;
    try {
      made = new Kind(locale, options);
    } catch { // the lang attribute is not a language
      made = new Kind(undefined, options);
    }
    formats.set(key, made);
  }
  return formats.get(key).format(value);
}

/** Numbers and dates in the language of an element, or else of the browser. */
export class Locale {
  #element;

  /** @param {Element} element */
  constructor(element) {
    this.#element = element;
  }

  get #name() { return this.#element.closest('[lang]')?.lang || undefined; }

  /** @param {number} n */
  number(n) { return format(Intl.NumberFormat, this.#name, {}, n); }

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
    const parts = today && (clock || !midnight) ? time : midnight ? day : { ...day, ...time };
    return format(Intl.DateTimeFormat, this.#name, parts, date);
  }
}
