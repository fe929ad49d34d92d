import { reflect, showText, unitName } from '../elements.js';
import { chartData, evenPace, forecast } from './data.js';
import { Drawing, drawGhost } from './drawing.js';
import { Legend } from './legend.js';
import { buildNodes } from './nodes.js';
import { fillTable } from './table.js';

/** Shows a history in the nodes of an element. */
export class ChartView {
  #element;
  #ui;
  #drawing;
  #legend;
  /** @type {import('./data.js').ChartData | null} */ #data = null;
  #state = null;
  #pace = null;
  // The day that the slider has, and whether its numbers are shown instead of those of all days.
  #day = 0;
  #chosen = false;
  // What the table was made from.
  #tabled = [];

  /** @param {import('./element.js').UsageChart} element */
  constructor(element) {
    this.#element = element;
    const ui = this.#ui = buildNodes(element);
    this.#drawing = new Drawing(ui.drawing);
    this.#legend = new Legend(ui.legend);
    const { plot } = ui;
    const byKeyboard = () => plot.matches(':focus-visible');
    plot.addEventListener('keydown', (event) => this.#onKey(event));
    plot.addEventListener('focus', () => byKeyboard() && this.#choose(this.#day));
    plot.addEventListener('blur', () => this.#leave());
    for (const type of ['pointermove', 'pointerdown']) plot.addEventListener(type, (event) => this.#onPointer(event));
    // A finger cannot rest above a day: what it has chosen stays until something else is touched.
    plot.addEventListener('pointerleave', ({ pointerType }) => pointerType !== 'touch' && !byKeyboard() && this.#leave());
    new ResizeObserver(() => this.#draw()).observe(plot);
  }

  /**
   * @param {import('../../client.d.ts').UsageState | null} state
   * @param {import('../../client.d.ts').UsageHistory | null} history
   * @param {string | null} problem why there is no history, or no newer one
   */
  show(state, history, problem) {
    const ui = this.#ui;
    const m = this.#element.messages;
    const today = this.#data?.days.at(-1).date;
    this.#state = state;
    const data = this.#data = history && state && chartData(history, state);
    this.#pace = state && evenPace(state);
    if (data && data.days.at(-1).date !== today) { // a new day moves the others
      this.#day = data.days.length - 1;
      this.#chosen = false;
    }
    const loading = !data && problem === null;
    const empty = data?.total === 0;
    const drawn = data !== null && !empty;
    const old = data && (state.stale || history.stale || problem);
    ui.card.className = ['card', loading && 'loading', !drawn && !loading && 'without', old && 'stale'].filter(Boolean).join(' ');
    ui.card.setAttribute('aria-busy', String(loading));
    ui.label.textContent = this.#element.label ?? m.chartLabel;
    ui.figures.hidden = ui.behind.hidden = !data;
    ui.plot.hidden = !drawn && !loading;
    ui.legend.hidden = !drawn;
    ui.notice.hidden = ui.forecast.hidden = true;
    if (empty) showText(ui.notice, m.chartEmpty);
    else if (old) showText(ui.notice, m.staleSince(this.#element.locale.date(history.as_of, true)));
    else if (!data && !loading) showText(ui.notice, { off: m.chartOff, unauthorized: m.unauthorized }[problem] ?? m.unavailable);
    if (data) this.#describe(history);
    if (drawn) {
      this.#legend.show(data.series, m);
      this.#showForecast(history);
    }
    this.#draw();
    this.#showNumbers();
  }

  /** What stands behind the drawing: the summary and the table. */
  #describe(history) {
    const { messages: m, locale } = this.#element;
    const { unit, days, total } = this.#data;
    const [from, to] = [this.#date(0), this.#date(days.length - 1)];
    this.#ui.summary.textContent = m.chartSummary(this.#amount(total), from, to);
    const made = [history, unit, this.#state.unit_name, m, locale.tag];
    if (made.every((value, i) => value === this.#tabled[i])) return;
    this.#tabled = made;
    fillTable(this.#ui.table, this.#data, {
      caption: m.chartCaption(unitName(this.#state, unit, m, locale.count(0)), from, to),
      titles: [m.chartDate, m.chartTotal],
      date: (i) => this.#date(i),
      number: (n) => locale.number(n),
    });
  }

  #showForecast(history) {
    const { messages: m, locale } = this.#element;
    const will = forecast(this.#state, history);
    if (!will) return;
    const day = { day: 'numeric', month: 'long' };
    const at = will.at && new Date(will.at);
    const now = new Date();
    const date = at && locale.formatDate(at, at.getFullYear() === now.getFullYear() ? day : { ...day, year: 'numeric' });
    const { forecast: node, forecastText: text } = this.#ui;
    if (will.kind === 'reached') text.data = m.chartReached;
    else if (will.kind === 'lasts') text.data = m.chartLasts(date);
    else if (at.toDateString() === now.toDateString()) text.data = m.chartExhaustsToday(locale.formatDate(at, { hour: 'numeric', minute: '2-digit' }));
    else text.data = m.chartExhausts(date);
    node.className = `forecast ${will.kind}`;
    node.hidden = false;
  }

  /** The numbers of the chosen day, or of all days. */
  #showNumbers() {
    const { plot, total, unit, when } = this.#ui;
    const data = this.#data;
    const m = this.#element.messages;
    if (!data?.total) {
      for (const name of ['role', 'tabindex', 'aria-label', 'aria-valuemin', 'aria-valuemax', 'aria-valuenow', 'aria-valuetext']) reflect(plot, name, null);
      if (!data) return;
    }
    const { locale } = this.#element;
    const day = data.days[this.#day];
    const shown = this.#chosen ? day.total : data.total;
    // The number is the big one, wherever it stands.
    const [number, text] = [locale.number(shown), this.#amount(shown)];
    const [before, ...after] = text.split(number);
    total.textContent = after.length ? before + number : text;
    unit.textContent = after.join(number);
    when.textContent = this.#chosen ? this.#date(this.#day) : m.chartRange(locale.count(data.days.length));
    if (!data.total) return;
    this.#legend.setValues(data.series.map((s, i) => locale.number(this.#chosen ? day.parts[i] : s.total)));
    const parts = data.series.map((s, i) => [s.name ?? m.chartOther, day.parts[i]]).filter(([, n]) => n > 0).map(([name, n]) => `${name} ${locale.number(n)}`);
    // Of the roles whose arrow keys a screen reader passes on, the slider fits: its value is a
    // day, and the text of a new value is spoken.
    for (const [name, value] of Object.entries({
      role: 'slider', tabindex: 0, 'aria-label': m.chartDate,
      'aria-valuemin': 1, 'aria-valuemax': data.days.length, 'aria-valuenow': this.#day + 1,
      'aria-valuetext': [m.chartDay(this.#date(this.#day), this.#amount(day.total)), ...parts].join(m.separator),
    })) reflect(plot, name, value);
  }

  #draw() {
    const { plot, drawing } = this.#ui;
    const [width, height] = [plot.clientWidth, plot.clientHeight];
    if (!width || !height) return;
    const data = this.#data;
    if (!data?.total) return drawGhost(drawing, width, height);
    const { messages: m, locale } = this.#element;
    const last = data.days.length - 1;
    const paced = this.#drawing.draw(data, {
      width, height, pace: this.#pace, rtl: this.#rtl,
      active: this.#chosen ? this.#day : null,
      number: (n) => locale.number(n, { notation: 'compact' }),
      date: (i) => (i === last ? m.chartToday : this.#date(i, { day: 'numeric', month: 'short' })),
    });
    const daily = this.#state.period.per === 'day';
    if (this.#pace === null) return this.#legend.hidePace();
    const perDay = locale.number(this.#pace, { maximumFractionDigits: this.#pace < 10 ? 1 : 0 });
    this.#legend.showPace(daily ? m.chartDailyLimit : paced ? m.chartPace : m.chartPaceAbove, daily ? perDay : m.chartPerDay(perDay), paced);
  }

  get #rtl() { return getComputedStyle(this.#element).direction === 'rtl'; }

  /** @param {number} n of what the chart counts */
  #amount(n) {
    const { messages: m, locale } = this.#element;
    const count = locale.count(n);
    return m.amount(count, unitName(this.#state, this.#data.unit, m, count));
  }

  /** @param {number} i a day @param {Intl.DateTimeFormatOptions} [options] */
  #date(i, options = { weekday: 'short', day: 'numeric', month: 'short' }) {
    // A day has no time, so no time zone may move it.
    return this.#element.locale.formatDate(new Date(`${this.#data.days[i].date}T00:00Z`), { ...options, timeZone: 'UTC' });
  }

  /** Shows the numbers of a day. */
  #choose(day) {
    if (!this.#data?.total || (this.#chosen && this.#day === day)) return;
    this.#day = day;
    this.#chosen = true;
    this.#showNumbers();
    this.#draw();
  }

  /** Shows the numbers of all days again. */
  #leave() {
    if (!this.#chosen) return;
    this.#chosen = false;
    this.#showNumbers();
    this.#draw();
  }

  #onPointer({ clientX }) {
    this.#choose(this.#drawing.dayAt(clientX - this.#ui.drawing.getBoundingClientRect().left));
  }

  #onKey(event) {
    if (!this.#data?.total || event.altKey || event.ctrlKey || event.metaKey) return;
    const last = this.#data.days.length - 1;
    const later = this.#rtl ? 'ArrowLeft' : 'ArrowRight';
    const earlier = this.#rtl ? 'ArrowRight' : 'ArrowLeft';
    const day = {
      [later]: this.#day + 1, ArrowUp: this.#day + 1, [earlier]: this.#day - 1, ArrowDown: this.#day - 1,
      PageUp: this.#day + 7, PageDown: this.#day - 7, Home: 0, End: last,
    }[event.key];
    if (event.key === 'Escape') this.#leave();
    if (day === undefined) return;
    event.preventDefault();
    this.#choose(Math.max(0, Math.min(last, day)));
  }
}
