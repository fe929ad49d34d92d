// Upstreams: where requests go. A target can be drained here, for this gateway and for a while; the file
// stays the only truth.
import { call } from './api.js';
import { ask, reasonField } from './changes.js';
import { card, empty, endGhosts, failure, ghosts, h, heading, say, slot, snippet, table } from './dom.js';
import { number, plural, share } from './format.js';
import { targetHead, targetRows, upstreamsOf } from './targets.js';

/** The share of the requests that each target would get, by its weight, if one of them got none. */
export function without(upstream, url) {
  const others = upstream.targets.filter((t) => t.url !== url && !t.drained && t.healthy && !t.ejected_until && t.weight > 0);
  const sum = others.reduce((all, t) => all + t.weight, 0);
  return others.map((t) => `${t.url} gets ${share(t.weight / sum)} of the requests; now it is ${share(t.share ?? 0)}.`);
}

async function drain(upstream, target) {
  const reason = reasonField();
  return ask({
    title: `Drain ${target.url}`,
    fields: [reason],
    label: () => 'Drain',
    effect: () => [`It gets no new requests from this gateway. ${target.in_flight ? `${plural(target.in_flight, 'request')} that run there now may end.` : 'No request runs there now.'}`,
      ...without(upstream, target.url), 'It holds until you undrain it or the gateway restarts. Other gateways are not changed.'],
    submit: () => call(`upstreams/${encodeURIComponent(upstream.name)}/drain`, { method: 'POST', body: { url: target.url, reason: reason.input.value.trim() } })
      .then((after) => ({ after, text: `${target.url} is drained.` })),
  });
}

async function undrain(upstream, target) {
  const reason = reasonField();
  return ask({
    title: `Undrain ${target.url}`,
    fields: [reason],
    label: () => 'Undrain',
    effect: () => [`It gets requests again by its weight, ${number(target.weight)}.`],
    submit: () => call(`upstreams/${encodeURIComponent(upstream.name)}/undrain`, { method: 'POST', body: { url: target.url, reason: reason.input.value.trim() } })
      .then((after) => ({ after, text: `${target.url} gets requests again.` })),
  });
}

/** Text as the configuration reads it. JSON strings are YAML strings; a $ would begin a variable. */
const quoted = (text) => JSON.stringify(text).replaceAll('$', '$$$$');

/** An upstream with a new target beside those of now, which gets about 5% of the requests. */
export function swapYAML({ name, targets }) {
  const sum = targets.reduce((all, t) => all + t.weight, 0);
  const scale = Math.ceil(19 / sum); // more than 1 only where all weights are small, so none gets over 1,000
  return ['upstreams:', `  ${/^[a-z0-9-]+$/i.test(name) ? name : quoted(name)}:`, '    targets:',
    ...targets.map((t) => `      - { url: ${quoted(t.url)}, weight: ${t.weight * scale} }`),
    `      - { url: "http://NEW-HOST:9000", weight: ${Math.max(1, Math.round(sum * scale / 19))} }`, ''].join('\n');
}

function swapText(upstream) {
  return h('details', { className: 'part body' }, h('summary', null, `How to swap a target of ${upstream.name}`), h('ol', { className: 'steps' },
    h('li', null, 'Add the new target beside the old one, with a weight for about 5% of the requests. Put this into gateway.yaml and save it; the gateway notices by itself. The upstream keeps its other keys.', snippet(swapYAML(upstream), `${upstream.name} with a new target, as YAML`)),
    h('li', null, 'Watch the new target here and the errors in the overview. Raise its weight when you trust it.'),
    h('li', null, 'Drain the old target here, on each gateway, or give it weight: 0 in the file, which every gateway reads.'),
    h('li', null, 'When nothing runs there any more, remove its line from the file.')));
}

export function showUpstream(u, admin, change) {
  const head = [...targetHead(u.name), ...(admin ? ['Change'] : [])];
  const rows = targetRows(u).map((row, i) => {
    const t = u.targets[i];
    if (!admin) return row;
    if (t.weight === 0) return [...row, '']; // it gets no requests, so there is nothing to drain
    const text = t.drained ? 'Undrain' : 'Drain';
    return [...row, h('button', { type: 'button', className: 'button small', ariaLabel: `${text} ${t.url}`, 'data-key': `${u.name} ${t.url}`, click: () => change(t.drained ? undrain : drain, u, t) }, text)];
  });
  const about = [`balance: ${u.balance}`, u.timeout && `timeout: ${u.timeout}`].filter(Boolean).join(', ');
  return card(u.name, { 'data-key': u.name, aside: h('span', { className: 'small dim' }, about) },
    h('div', { className: 'targets' }, table({ caption: `Targets of ${u.name}`, head, numbers: [1, 4], rows })),
    u.targets.some((t) => t.drained) ? h('div', { className: 'part body' }, h('p', { className: 'banner warn' }, 'A drain holds on this gateway only, and not after a restart. To keep it, and to drain on every gateway, put this into gateway.yaml:'), snippet(u.yaml, `${u.name} with weight 0, as YAML`)) : null,
    swapText(u));
}

export function showUpstreams({ main, signal, live, admin }) {
  const fault = h('div');
  const list = slot(h('div', { className: 'stack wide-gap' }, h('div', { className: 'card' }, ghosts())), (upstreams) => (upstreams.length
    ? upstreams.map((u) => showUpstream(u, admin, change))
    : h('div', { className: 'card' }, empty('No upstreams', 'The configuration has none.'))));
  main.append(heading('Upstreams', h('p', null, 'Where this gateway sends requests.'),
    admin ? null : h('p', null, 'You are signed in as viewer, who cannot drain a target. Sign in with admin.token for that.')), fault, list);

  async function change(run, upstream, target) {
    const done = await run(upstream, target);
    if (!done || signal.aborted) return;
    say(done.text);
    await load();
    if (document.activeElement === document.body) main.querySelector('h1').focus();
  }

  async function load() {
    try {
      const { upstreams } = await call('upstreams', { signal });
      fault.replaceChildren();
      list.show(upstreams);
    } catch (error) {
      if (signal.aborted) return;
      fault.replaceChildren(failure(error, load));
      endGhosts(main);
    }
  }

  live.addEventListener('overview', ({ detail }) => { list.show(upstreamsOf(detail)); }, { signal });
  live.addEventListener('state', () => { if (live.state === 'live') load(); }, { signal });
  load();
}
