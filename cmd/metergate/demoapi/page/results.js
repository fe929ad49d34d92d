// What the dashboard makes elements with, and how it shows the answers of the API.

export const number = new Intl.NumberFormat('en');

/** Makes an element. Properties that are functions become event listeners. */
export function h(tag, properties, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (typeof value === 'function') element.addEventListener(name, value);
    else if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const capital = (text) => text[0].toUpperCase() + text.slice(1);
export const plural = (n, one) => `${number.format(n)} ${one}${n === 1 ? '' : 's'}`;

const figures = (...pairs) => h('dl', { className: 'figures' }, ...pairs.filter(Boolean).map(([name, value, word]) => h('div', null,
  h('dt', null, name), h('dd', { className: word ? 'word' : '' }, ...[value].flat()))));
const chips = (pairs) => h('ul', { className: 'chips' }, ...pairs.map(([name, n]) => h('li', null, name, h('span', null, ` ${number.format(n)}`))));
const languages = new Intl.DisplayNames('en', { type: 'language' });

/** For each endpoint, the elements that show an answer of the API. */
export const RESULTS = {
  analyze: (a) => [
    figures(['Words', number.format(a.words)], ['Characters', number.format(a.characters)], ['Sentences', number.format(a.sentences)]),
    figures(['Language', a.language === 'und' ? 'unknown' : languages.of(a.language), true], ['Sentiment', capital(a.sentiment.label), true], ['Score', a.sentiment.score, true]),
    a.key_terms.length ? chips(a.key_terms.map((t) => [t.term, t.count])) : null,
  ],
  redact: (a) => [
    h('p', { className: 'quote' }, ...a.text.split(/(\[(?:EMAIL|IBAN|PHONE|NAME)\])/).map((piece, i) => (i % 2 ? h('mark', null, piece.slice(1, -1)) : piece))),
    chips(Object.entries(a.found)),
  ],
  report: (a) => [
    h('h3', null, a.title),
    h('p', { className: 'dim' }, `${plural(a.words, 'word')}, ${plural(a.reading_seconds, 'second')} to read`),
    h('ul', { className: 'list' }, ...a.sections.map((s) => h('li', null, h('b', null, s.heading), h('span', { className: 'dim' }, `${s.summary} (${plural(s.words, 'word')})`)))),
  ],
  drill: (a) => [
    h('ol', { className: 'list' }, ...a.questions.map((q) => h('li', null, q.question,
      h('details', null, h('summary', { className: 'dim' }, 'Show the answer'), h('b', null, q.answer))))),
  ],
  chat: (a) => [h('p', { className: 'quote' }, a.text), figures(['Tokens', number.format(a.tokens)])],
  'image-analysis': (a, { picture }) => {
    const canvas = h('canvas', { width: picture.width, height: picture.height, role: 'img', ariaLabel: 'The image you sent' });
    canvas.getContext('2d').drawImage(picture, 0, 0);
    const swatch = a.average_color ? h('i', { className: 'swatch' }) : null;
    swatch?.style.setProperty('background', a.average_color);
    return [
      canvas,
      figures(['Format', a.format.toUpperCase(), true], ['Size', `${a.width} × ${a.height}`, true], ['Bytes', number.format(a.bytes), true]),
      figures(swatch && ['Average colour', [swatch, a.average_color], true], ['SHA-256', `${a.sha256.slice(0, 12)}…`, true]),
    ];
  },
};
