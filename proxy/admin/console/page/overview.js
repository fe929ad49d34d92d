// The overview: does everything work, and what has happened in the last hour?
import { call } from './api.js';
import { chart } from './charts.js';
import { badge, card, empty, endGhosts, failure, ghosts, h, heading, slot, table } from './dom.js';
import { bytes, decimal, millis, number, plural, time } from './format.js';
import { targetRows, targetHead, upstreamsOf } from './targets.js';

const askEvery = 10_000; // ms, while it is not live
const points = 360; // of a series: an hour, every 10 s

/** What is wrong: texts, the worst first. Each fault is told once, though a check may find it as well. */
export function faultsOf(o) {
  const faults = [];
  const told = new Set(upstreamsOf(o).map((u) => `upstream ${u.name}`));
  if (o.config?.last_fault) told.add('configuration');
  if (o.gateway?.draining) faults.push('The gateway is shutting down. It takes no new connections.');
  if (o.store && !o.store.ok) {
    told.add('store');
    faults.push(`The store does not work: ${o.store.faults?.join('; ') || 'it does not answer'}.`);
  }
  for (const [name, text] of Object.entries(o.checks ?? {})) {
    if (text !== 'ok' && !told.has(name)) faults.push(`${name}: ${text}`);
  }
  for (const upstream of upstreamsOf(o)) {
    for (const target of upstream.targets) {
      if (!target.healthy) faults.push(`${upstream.name}: ${target.url} is not healthy${target.check_error ? `: ${target.check_error}` : ''}.`);
      else if (target.ejected_until) faults.push(`${upstream.name}: ${target.url} gets no requests for the moment, because it has failed.`);
    }
  }
  if (o.journal?.waiting) faults.push(`${plural(o.journal.waiting, 'count')} ${o.journal.waiting === 1 ? 'waits' : 'wait'} in the journal for the store.`);
  if (o.config?.last_fault) faults.push('The last change of the configuration was refused. The one before stays in force.');
  return faults;
}

function showState(o) {
  const faults = faultsOf(o);
  if (faults.length) {
    return h('div', { className: 'banner bad' }, h('p', null, h('b', null, faults.length === 1 ? 'One thing needs a look' : `${faults.length} things need a look`)),
      h('ul', null, faults.map((text) => h('li', null, text))));
  }
  const n = upstreamsOf(o).reduce((all, u) => all + u.targets.length, 0);
  return h('div', { className: 'banner ok' }, h('p', null, `Everything works: the configuration, the store${n ? `, and ${n === 1 ? 'the target' : `all ${n} targets`} of the upstreams` : ''}.`));
}

const figure = (name, value, about, tone = '') => h('div', null, h('dt', null, name), h('dd', { className: tone }, value, about ? h('span', { className: 'about' }, about) : null));

const part = (of, all) => (all ? `${decimal(Math.round(of / all * 1000) / 10)}%` : '');

function showFigures({ hour = {}, open = {}, seconds }) {
  const refused = Object.values(hour.refused ?? {}).reduce((a, b) => a + b, 0);
  const reasons = Object.entries(hour.refused ?? {}).filter(([, n]) => n).map(([name, n]) => `${number(n)} ${name}`).join(', ');
  return h('dl', { className: 'figures' },
    figure('Requests', number(hour.requests), `${decimal((hour.requests ?? 0) / seconds)} a second`),
    figure('Admitted', number(hour.admitted), 'metered requests'),
    figure('Refused', number(refused), reasons || 'by a limit', refused ? 'warn' : ''),
    figure('Errors', number(hour['5xx']), `5xx${hour.requests ? `, ${part(hour['5xx'], hour.requests)} of all` : ''}`, hour['5xx'] ? 'bad' : ''),
    figure('Unauthorized', number(hour.unauthorized), 'bad or no token', ''),
    figure('Latency', millis(hour.p50_ms), `95%: ${millis(hour.p95_ms)}, 99%: ${millis(hour.p99_ms)}`),
    figure('Running now', number(open.requests), `${plural(open.streams ?? 0, 'stream')}, ${plural(open.connections ?? 0, 'connection')}`));
}

const facts = (...pairs) => h('dl', { className: 'facts' }, pairs.filter(Boolean).map(([name, ...values]) => h('div', null, h('dt', null, name), h('dd', null, values))));

const storeNames = { redis: 'Redis', cluster: 'Redis Cluster', sentinel: 'Redis with Sentinel', embedded: 'Embedded, in a file' };

function showStore({ store = {}, journal }) {
  return facts(
    ['Store', storeNames[store.kind] ?? store.kind, ' ', badge(store.ok ? 'ok' : 'bad', store.ok ? 'works' : 'does not work')],
    store.faults?.length ? ['Faults', store.faults.join('; ')] : null,
    store.breaker && ['Circuit breaker', store.breaker === 'closed' ? 'closed: calls reach the store' : store.breaker === 'open' ? 'open: the store is left alone for a moment' : 'half-open: one call tries the store'],
    store.file_size ? ['File', `${bytes(store.file_size)}${store.file_free ? `, ${bytes(store.file_free)} of it free` : ''}`] : null,
    journal ? ['Journal', journal.waiting ? [plural(journal.waiting, 'count'), ` ${journal.waiting === 1 ? 'waits' : 'wait'}, ${bytes(journal.bytes)}`, journal.oldest_at ? [', the oldest from ', time(journal.oldest_at, 'time')] : ''] : 'empty: nothing waits for the store'] : ['Journal', 'not used with this store']);
}

function showConfig({ config = {}, gateway = {} }) {
  return [facts(
    ['File', h('code', null, config.file ?? '–'), ' ', badge(config.last_fault ? 'bad' : 'ok', config.last_fault ? 'last change refused' : 'in force')],
    ['Loaded', config.loaded_at ? time(config.loaded_at) : '–', config.hash ? [', hash ', h('code', null, config.hash.slice(0, 12))] : ''],
    ['Gateway', `${gateway.version ?? ''}${/^[0-9a-f]{7,}$/.test(gateway.commit) ? ` (${gateway.commit.slice(0, 9)})` : ''}, on ${gateway.host ?? '–'}, process ${gateway.pid ?? '–'}`],
    ['Up since', gateway.started_at ? time(gateway.started_at) : '–']),
  config.last_fault ? h('div', { className: 'banner bad' }, h('p', null, 'Refused at ', time(config.last_fault.at, 'time'), ':'), h('ul', null, (config.last_fault.lines ?? []).map((line) => h('li', null, line)))) : null,
  config.warnings?.length ? h('div', { className: 'banner warn' }, h('ul', null, config.warnings.map((line) => h('li', null, line)))) : null];
}

function showActions({ entries }) {
  if (!entries.length) return empty('No actions yet', 'Reloads, drains and the like appear here, since the start of this gateway. What was changed about a user is on the page of that user.');
  return table({
    caption: 'Recent actions of administrators', head: ['When', 'Action', 'Detail', 'Reason', 'From', 'Outcome'],
    rows: entries.slice(0, 20).map((e) => [time(e.at), e.action, h('span', { className: 'id' }, e.detail ?? ''), h('span', { className: 'id' }, e.reason ?? ''), e.from ?? '', e.outcome ?? '']),
  });
}

/** The series of the last hour, to which the live points are added. */
class Series {
  #s = { step_s: 10, to: Date.now(), requests: [], errors: [], refused: [], p50_ms: [], p95_ms: [], p99_ms: [] };

  replace(series) { if (series) this.#s = { ...series, to: new Date(series.to).getTime() }; }

  /** Adds a point, unless it is of the moment that is the last one already. */
  add(point, at) {
    const s = this.#s;
    const when = new Date(point.at ?? point.to ?? at).getTime();
    const steps = Math.round((when - s.to) / 1000 / s.step_s);
    if (steps < 0 || Number.isNaN(steps)) return;
    for (const name of ['requests', 'errors', 'refused', 'p50_ms', 'p95_ms', 'p99_ms']) {
      const list = s[name];
      for (let i = 1; i < Math.min(steps, points); i++) list.push(null);
      if (steps === 0) list.pop();
      list.push(point[name] ?? null);
      list.splice(0, list.length - points);
    }
    if (steps > 0) s.to += steps * s.step_s * 1000;
  }

  times() {
    const n = this.#s.requests.length;
    return Array.from({ length: n }, (_, i) => this.#s.to / 1000 - (n - 1 - i) * this.#s.step_s);
  }

  values(name) { return this.#s[name]; }

  rate(name) { return this.#s[name].map((v) => (v === null ? null : v / this.#s.step_s)); }
}

export function showOverview({ main, signal, live }) {
  const state = slot(h('div'), showState);
  const figures = slot(h('div', { className: 'body' }, ghosts(2)), showFigures);
  const store = slot(h('div', { className: 'body' }, ghosts(3)), showStore);
  const config = slot(h('div', { className: 'body stack' }, ghosts(3)), showConfig);
  const targets = slot(h('div', null, ghosts(3)), (upstreams) => (upstreams.length
    ? upstreams.map((u) => h('div', { className: 'part targets', 'data-key': u.name }, table({ caption: `Targets of ${u.name}`, head: targetHead(u.name), numbers: [1, 4], rows: targetRows(u) })))
    : empty('No upstreams', 'The configuration has none.')));
  const actions = slot(h('div', null, ghosts(2)), showActions);
  const traffic = chart({ title: 'Requests a second in the last hour', lines: [{ label: 'Requests', ink: 'ink-a', fill: true }], signal });
  const trouble = chart({ title: 'Refused requests and errors a second in the last hour', lines: [{ label: 'Refused', ink: 'ink-b' }, { label: 'Errors', ink: 'ink-c' }], signal });
  const latency = chart({ title: 'Latency in the last hour', lines: [{ label: '50%', ink: 'ink-a' }, { label: '95%', ink: 'ink-b' }, { label: '99%', ink: 'ink-c' }], format: millis, signal });
  const fault = h('div');
  main.append(
    heading('Overview', h('p', null, 'This gateway, and what it has done in the last hour.')),
    fault, state,
    card('Last hour', null, figures),
    h('div', { className: 'grid3' },
      card('Requests a second', null, h('div', { className: 'body' }, traffic)),
      card('Refused and errors a second', null, h('div', { className: 'body' }, trouble)),
      card('Latency', null, h('div', { className: 'body' }, latency))),
    card('Upstreams', { aside: h('a', { href: '#/upstreams' }, 'Drain or swap') }, targets),
    h('div', { className: 'grid2' }, card('Store', null, store), card('Configuration', null, config)),
    card('Recent actions', null, actions));

  const series = new Series();
  function showNow(o) {
    state.show(o);
    // A gateway that runs for less than an hour has no hour yet. Tens of seconds are as exact as its numbers.
    const up = Math.ceil((Date.now() - new Date(o.gateway?.started_at).getTime()) / 10_000) * 10;
    figures.show({ hour: o.hour, open: o.open, seconds: Math.max(10, Math.min(3600, up || 3600)) });
    store.show({ store: o.store, journal: o.journal });
    config.show({ config: o.config, gateway: o.gateway });
    targets.show(upstreamsOf(o));
  }
  function showSeries() {
    const times = series.times();
    traffic.show(times, [series.rate('requests')]);
    trouble.show(times, [series.rate('refused'), series.rate('errors')]);
    latency.show(times, ['p50_ms', 'p95_ms', 'p99_ms'].map((name) => series.values(name)));
  }

  let loaded = false;
  async function load() {
    try {
      const [overview, audit] = await Promise.all([call('overview', { signal }), call('audit', { signal })]);
      fault.replaceChildren();
      series.replace(overview.series);
      showNow(overview);
      showSeries();
      actions.show(audit);
      loaded = true;
    } catch (error) {
      if (signal.aborted) return;
      if (!fault.textContent.includes(error.message)) fault.replaceChildren(failure(error, load)); // said once
      endGhosts(main);
    }
  }
  live.addEventListener('overview', ({ detail }) => {
    if (!loaded) return;
    showNow(detail);
    if (detail.point) {
      series.add(detail.point, new Date());
      showSeries();
    }
    call('audit', { signal }).then((audit) => actions.show(audit)).catch(() => {}); // the next event tries again
  }, { signal });
  // What was missed while it was not live.
  live.addEventListener('state', () => { if (live.state === 'live' && loaded) load(); }, { signal });
  // Without events, as many consoles are open or a proxy holds them back, it asks.
  const timer = setInterval(() => { if (live.state === 'off' && document.visibilityState === 'visible') load(); }, askEvery);
  signal.addEventListener('abort', () => clearInterval(timer), { once: true });
  load();
}
