// Charts, drawn by uPlot. Each has its numbers in a table as well, for people who cannot see it.
import { h, patch, table } from './dom.js';
import { clockText, dateText, decimal, number, timeText } from './format.js';

const height = 150;
const day = 86_400; // s
const shortest = 600; // s that a chart of values over time covers at least

/** The value of a colour of base.css in the scheme that is used. A canvas cannot read it itself. */
function colour(name) {
  const probe = h('i', { className: 'hidden' });
  probe.style.setProperty('color', `var(--${name})`);
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}

/**
 * A chart of values over time. lines: [{ label, ink }], ink a colour of base.css. say: formats a value.
 * bars: draw bars, one for each day. The result has show(times, values), with times in seconds and
 * null for what is not known.
 */
export function chart({ title, lines, format = decimal, bars = false, signal }) {
  let plot = null, data = null;
  const box = h('div', { className: 'plot', role: 'img', ariaLabel: title });
  const read = h('ul', { className: 'legend' });
  const values = lines.map(({ label, ink }) => {
    const value = h('b');
    read.append(h('li', null, h('i', { className: ink, ariaHidden: 'true' }), label, ' ', value));
    return value;
  });
  const at = h('li', { className: 'dim' });
  read.append(at);
  const rows = h('div');
  const details = h('details', { className: 'numbers', toggle: showTable }, h('summary', null, 'Show the numbers'), rows);
  const timeName = (t) => (bars ? dateText(new Date(t * 1000).toISOString().slice(0, 10)) : timeText(new Date(t * 1000)));

  /** Shows the values at a point of the chart; by default, the last that are known. */
  function readAt(index) {
    const [times, ...series] = data;
    let i = index;
    if (i === null || i === undefined) {
      i = times.length - 1;
      while (i > 0 && series.every((s) => s[i] === null || s[i] === undefined)) i--;
    }
    values.forEach((element, n) => { element.textContent = format(series[n][i]); });
    const when = bars || !times.length ? '' : 'at ';
    at.textContent = times.length ? `${when}${timeName(times[i])}` : 'the first numbers come within ten seconds';
  }

  function draw() {
    plot?.destroy();
    plot = null;
    if (!data || !box.clientWidth) return;
    const axis = {
      stroke: colour('muted'), font: '11px sans-serif', ticks: { show: false },
      grid: { stroke: colour('line'), width: 1 },
    };
    plot = new window.uPlot({
      width: box.clientWidth, height, padding: [8, 8, 0, 0], legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { show: !bars } },
      tzDate: bars ? (t) => window.uPlot.tzDate(new Date(t * 1000), 'Etc/UTC') : undefined,
      scales: { x: { time: true, range: bars ? (_, min, max) => [min - day / 2, max + day / 2] : latest }, y: { range: (_, __, max) => [0, max > 0 ? max * 1.1 : 1] } },
      axes: [
        { ...axis, grid: { show: false }, size: 26, space: 64, values: (_, splits) => splits.map((t) => (bars ? dateText(new Date(t * 1000).toISOString().slice(0, 10)) : clockText(t))) },
        { ...axis, size: 52, space: 28, values: (_, splits) => splits.map((v) => (bars && v % 1 ? '' : format(v))) },
      ],
      series: [{}, ...lines.map(({ label, ink, fill }) => ({
        label, stroke: colour(ink), width: bars ? 0 : 1.5, points: { show: false },
        fill: bars ? colour(ink) : fill ? faint(colour(ink)) : undefined,
        paths: bars ? window.uPlot.paths.bars({ size: [0.7, 28] }) : undefined,
      }))],
      hooks: { setCursor: [(u) => { if (data) readAt(u.cursor.idx); }] },
    }, data, box);
  }

  // The table has at most 30 rows: of a long series, the mean of as many points as it takes.
  function showTable() {
    if (!details.open || !data) return;
    const [times, ...series] = data;
    const step = Math.max(1, Math.ceil(times.length / 30));
    const lastRows = [];
    for (let end = times.length; end > 0; end -= step) {
      const start = Math.max(0, end - step);
      lastRows.push([timeName(times[end - 1]), ...series.map((s) => format(mean(s.slice(start, end))))]);
    }
    patch(rows, table({
      caption: title, numbers: lines.map((_, i) => i + 1), rows: lastRows,
      head: [bars ? 'Day' : step > 1 ? 'Until' : 'At', ...lines.map(({ label }) => (step > 1 ? `${label}, mean` : label))],
    }));
  }

  new ResizeObserver(() => {
    if (!plot) draw();
    else if (box.clientWidth && box.clientWidth !== plot.width) plot.setSize({ width: box.clientWidth, height });
  }).observe(box);
  document.addEventListener('themechange', draw, { signal });
  signal.addEventListener('abort', () => plot?.destroy(), { once: true });

  return Object.assign(h('div', { className: 'chart' }, read, box, details), {
    show(times, series) {
      data = [times, ...series];
      box.ariaLabel = `${title}. ${lines.map(({ label }, i) => `${label}: highest ${format(highest(series[i]))}`).join('; ')}.`;
      readAt(null);
      if (plot) plot.setData(data);
      else draw();
      showTable();
    },
  });
}

/** The range of a chart of values over time; without values, that until now. */
const latest = (_, min, max) => (max === null ? [Date.now() / 1000 - shortest, Date.now() / 1000] : [Math.min(min, max - shortest), max]);

/** A colour that lets most of what is behind it through. */
const faint = (rgb) => rgb.replace(/^rgb\((.*)\)$/, 'rgba($1, 0.1)');

function mean(list) {
  const known = list.filter((v) => v !== null && v !== undefined);
  return known.length ? known.reduce((a, b) => a + b, 0) / known.length : null;
}

const highest = (list) => list.reduce((a, b) => Math.max(a, b ?? 0), 0);

/** How many users have used how much: n has users by percent in steps of 10, the last 100 and more. */
export function histogram(n, plan) {
  const most = Math.max(1, ...n);
  const name = (i) => (i === 10 ? '100% and more' : `${i * 10} to ${i * 10 + 9}%`);
  return h('div', null,
    h('div', { className: 'histogram', ariaHidden: 'true' }, n.map((users, i) => {
      const column = h('i', { className: i === 10 ? 'bad' : i >= 8 ? 'warn' : '', title: `${name(i)}: ${number(users)}` });
      column.style.setProperty('height', `${users ? Math.max(3, users / most * 100) : 0}%`);
      return h('span', null, column);
    })),
    h('p', { className: 'scale small dim', ariaHidden: 'true' }, h('span', null, '0%'), h('span', null, '50%'), h('span', null, '100%')),
    h('details', { className: 'numbers' }, h('summary', null, 'Show the numbers'),
      table({ caption: `Users of ${plan} by what they have used of the limit they are nearest to`, head: ['Used', 'Users'], numbers: [1], rows: n.map((users, i) => [name(i), number(users)]) })));
}
