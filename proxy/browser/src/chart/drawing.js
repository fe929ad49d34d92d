import { datedDays, ticks } from './scale.js';

const SVG = 'http://www.w3.org/2000/svg';
const TOP = 6; // half a line of text
const AXIS = 20; // for the dates

/**
 * Makes an SVG element.
 * @param {string} tag @param {Record<string, any>} [attributes]
 */
export function svgNode(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, String(value));
  node.append(...children);
  return node;
}

/**
 * A series is told from the others by its colour or, where the user has chosen the colours, by its
 * pattern: style.js overrides this attribute unless colours are forced.
 * @param {number} color
 */
export const paint = (color) => ({ class: `series s${color}`, fill: `url(#pattern-${color})` });

/** The patterns that paint refers to. They must be in the same shadow tree. */
export function patterns() {
  const shapes = ['M0 0H4V4H0Z', 'M-1 1L1 -1M0 6L6 0M5 7L7 5', 'M0 1.5H6M0 4.5H6', 'M1 1H3V3H1ZM4 4H6V6H4Z', 'M1.5 0V6M4.5 0V6', 'M0 0'];
  return svgNode('defs', {}, ...shapes.map((d, i) => svgNode('pattern', {
    id: `pattern-${(i + 1) % shapes.length}`, width: i ? 6 : 4, height: i ? 6 : 4, patternUnits: 'userSpaceOnUse',
  }, svgNode('path', { d, class: [0, 3].includes(i) ? 'solid' : 'lines' }))));
}

/** Draws bars in an SVG element. */
export class Drawing {
  #svg;
  // Of the last drawing.
  #days = 0;
  #step = 1;
  #mirror = (x, width = 0) => x;

  /** @param {SVGElement} svg */
  constructor(svg) {
    this.#svg = svg;
  }

  /** The day at a position, counted from the left of the drawing. @param {number} x */
  dayAt(x) {
    return Math.max(0, Math.min(this.#days - 1, Math.floor(this.#mirror(x) / this.#step)));
  }

  /**
   * @param {import('./data.js').ChartData} data
   * @param {{ width: number, height: number, rtl: boolean, pace: number | null, active: number | null,
   *   number: (n: number) => string, date: (index: number) => string }} options
   * @returns {boolean} whether the pace has its line
   */
  draw({ days, series }, { width, height, rtl, pace, active, number, date }) {
    const most = Math.max(1, ...days.map((day) => day.total));
    // A pace far above all days would leave no height to them: then only the legend has it.
    const paced = pace !== null && pace <= 3 * most;
    const lines = ticks(Math.max(most, paced ? pace : 0));
    const end = lines.at(-1);
    const labels = lines.map(number);
    const gutter = 8 + 6.5 * Math.max(...labels.map((label) => label.length));
    const plot = Math.max(1, width - gutter);
    const base = height - AXIS;
    const y = (value) => base - (value / end) * (base - TOP);
    this.#days = days.length;
    this.#step = plot / days.length;
    this.#mirror = (x, w = 0) => (rtl ? width - x - w : x);
    const mirror = this.#mirror;

    const nodes = [];
    if (active !== null) {
      nodes.push(svgNode('rect', { class: 'band', x: mirror(active * this.#step, this.#step), y: 0, width: this.#step, height: base }));
    }
    for (const value of [0, ...lines]) {
      const at = Math.round(y(value)) + 0.5;
      nodes.push(svgNode('line', { class: value ? 'grid' : 'grid base', x1: mirror(0), x2: mirror(plot), y1: at, y2: at }));
    }
    days.forEach((day, i) => nodes.push(...this.#bar(day, series, i, y)));
    if (paced) {
      const at = Math.round(y(pace)) + 0.5;
      for (const name of ['pace-edge', 'pace-line']) nodes.push(svgNode('line', { class: name, x1: mirror(0), x2: mirror(plot), y1: at, y2: at }));
    }
    labels.forEach((label, i) => nodes.push(svgNode('text', { x: mirror(width), y: Math.round(y(lines[i])) + 4, 'text-anchor': 'end' }, label)));
    const dated = datedDays(days.length, plot, 76);
    dated.forEach((day, i) => nodes.push(svgNode('text', {
      x: mirror(i === 0 ? 0 : i === dated.length - 1 ? plot : (day + 0.5) * this.#step),
      y: height - 4, 'text-anchor': i === 0 ? 'start' : i === dated.length - 1 ? 'end' : 'middle',
    }, date(day))));
    this.#svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
    this.#svg.replaceChildren(patterns(), ...nodes);
    return paced;
  }

  /** The parts of a day's bar, one above the other. */
  #bar(day, series, i, y) {
    if (!day.total) return [];
    // All bars have the same width, in whole pixels where there is room.
    const width = this.#step < 4 ? this.#step * 0.8 : Math.min(40, Math.floor(this.#step * 0.78));
    const left = i * this.#step + (this.#step - width) / 2;
    const x = this.#mirror(this.#step < 4 ? left : Math.round(left), width);
    const rect = (s, top, bottom) => svgNode('rect', {
      ...paint(series[s].color), x, y: top, width, height: bottom - top, rx: Math.min(2, width / 4, (bottom - top) / 2),
    });
    const base = Math.round(y(0));
    // The least use can be seen.
    if (base - y(day.total) < 2) return [rect(day.parts.indexOf(Math.max(...day.parts)), base - 2, base)];
    const rects = [];
    let below = 0;
    let bottom = base;
    day.parts.forEach((part, s) => {
      if (!part) return;
      below += part;
      const top = Math.round(y(below) * 2) / 2;
      // A gap keeps the parts apart, unless that would take all of a part.
      const gap = below < day.total && bottom - top >= 2 ? 1 : 0;
      if (bottom > top) rects.push(rect(s, top + gap, bottom));
      bottom = top;
    });
    return rects;
  }
}

/** Draws bars for a chart that is still loading. */
export function drawGhost(svg, width, height) {
  const bars = Math.max(1, Math.floor(width / 12));
  const step = width / bars;
  svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
  svg.replaceChildren(...Array.from({ length: bars }, (_, i) => {
    const tall = (height - AXIS) * (0.45 + 0.2 * Math.sin(i * 0.9) + 0.2 * Math.sin(i * 2.3));
    return svgNode('rect', { class: 'ghost', x: i * step, y: height - AXIS - tall, width: step * 0.7, height: tall, rx: 2 });
  }));
}
