// Plans: their limits, how much their users have used, and whom another number would block. Nothing here
// changes a plan: the configuration file does.
import { pages } from './api.js';
import { histogram } from './charts.js';
import { card, empty, failure, ghosts, h, heading, newID, patch, slot, snippet, table } from './dom.js';
import { number, plural, time } from './format.js';
import { limitText } from './limits.js';
import { userLink, usersLink, withQuery } from './route.js';

const largest = 1e15; // what a number may be

/** The numbers to try that an address names, as "free/month=150": a map of "free/month" to 150. */
function triedIn(query) {
  const tried = new Map();
  for (const text of query.getAll('set')) {
    const i = text.lastIndexOf('=');
    if (i > 0 && /^\d{1,16}$/.test(text.slice(i + 1))) tried.set(text.slice(0, i), Number(text.slice(i + 1)));
  }
  return tried;
}

function planFacts(p, session) {
  const linked = (state, n, text, tone) => h('div', null, h('dt', null, text),
    h('dd', { className: n ? tone : '' }, h('a', { href: usersLink({ plan: p.name, ...state }), ariaLabel: `${plural(n, 'user')} of ${p.name}: ${text}` }, number(n))));
  // The list of users has also those of whom nothing is counted now. None of them is near a limit or blocked.
  return [h('dl', { className: 'figures three' }, h('div', null, h('dt', null, 'Users with counts'), h('dd', null, number(p.users))),
    linked({ state: 'near' }, p.near, `Near, from ${session.warn_at ?? 80}%`, 'warn'), linked({ state: 'blocked' }, p.blocked, 'Blocked', 'bad')),
  h('p', { className: 'small' }, h('a', { href: usersLink({ plan: p.name }) }, `All users of ${p.name}`)),
  p.limits.some((l) => !l.soft)
    ? h('div', null, h('p', { className: 'small dim' }, 'Users by what they have used of the limit they are nearest to'), histogram(p.histogram, p.name))
    : h('p', { className: 'small dim' }, 'Its users are never refused.')];
}

/** The limits of a plan, each with its number to edit. onTry gets a number, or null for the one of now. */
function limitFields(p, session, tried, onTry) {
  if (!p.limits.length) return h('p', { className: 'dim' }, 'No limits: requests are counted, and none is refused.');
  return h('ul', { className: 'amounts' }, p.limits.map((l) => {
    const id = newID(), key = `${p.name}/${l.name}`;
    const onInput = ({ currentTarget: edited }) => {
      const good = /^\d{1,16}$/.test(edited.value) && Number(edited.value) <= largest;
      if (good) edited.removeAttribute('aria-invalid');
      else edited.setAttribute('aria-invalid', 'true');
      if (good) onTry(key, Number(edited.value) === l.amount ? null : Number(edited.value));
    };
    const input = h('input', { id, type: 'number', min: 0, max: largest, step: 1, inputMode: 'numeric', value: tried.get(key) ?? l.amount, 'data-limit': key, 'aria-describedby': `${id}-text`, input: onInput });
    return h('li', { 'data-key': key }, h('label', { htmlFor: id }, l.name, l.soft ? [' ', h('span', { className: 'tag' }, 'soft')] : null, l.shared ? [' ', h('span', { className: 'tag' }, 'shared')] : null),
      input, h('span', { className: 'small dim', id: `${id}-text` }, limitText(l, session.unit_name), l.carry ? `, carries ${l.carry === 'all' ? 'all' : number(l.carry)} over` : ''));
  }));
}

const change = (now, then) => [number(then), now === then ? null : h('span', { className: then > now ? 'up' : 'down' }, ` (${then > now ? '+' : '−'}${number(Math.abs(then - now))})`)];

const planOf = (key) => key.slice(0, key.lastIndexOf('/'));

function replaced(tried) {
  const names = [...new Set([...tried.keys()].map(planOf))].sort();
  return names.length === 1 ? `the plan ${names[0]} by this one` : `the plans ${names.join(', ')} by these`;
}

function showCheck(c, tried) {
  const summary = c.newly_blocked || c.freed
    ? `${plural(c.newly_blocked, 'user')} would be blocked who can send requests now, and ${plural(c.freed, 'user')} who ${c.freed === 1 ? 'is' : 'are'} blocked now would be free.`
    : 'Nobody would be blocked who is not blocked now, and nobody freed.';
  const soft = c.plans.some((p) => p.above_soft_now || p.above_soft_then);
  const endpoints = c.plans.some((p) => p.on_endpoint_now || p.on_endpoint_then);
  return [
    h('p', { className: `banner ${c.newly_blocked ? 'bad' : 'ok'}` }, summary, c.done ? '' : ` So far: ${plural(c.scanned, 'user')} read …`),
    table({
      caption: 'Blocked users by plan, now and with the numbers that you try',
      head: ['Plan', 'Users', 'Blocked now', 'Then', ...(endpoints ? ['On an endpoint now', 'Then'] : []), ...(soft ? ['Above a soft limit now', 'Then'] : [])],
      numbers: [1, 2, 3, 4, 5, 6, 7],
      rows: c.plans.map((p) => [h('span', { className: 'id' }, p.name), number(p.users), number(p.blocked_now), h('span', null, change(p.blocked_now, p.blocked_then)),
        ...(endpoints ? [number(p.on_endpoint_now), h('span', null, change(p.on_endpoint_now, p.on_endpoint_then))] : []),
        ...(soft ? [number(p.above_soft_now), h('span', null, change(p.above_soft_now, p.above_soft_then))] : [])]),
    }),
    c.users.length ? h('div', null, h('h3', null, c.newly_blocked > c.users.length ? `The first ${number(c.users.length)} of them` : 'Who would be blocked'), table({
      caption: 'Users who would be blocked', head: ['User', 'Plan', 'Limit', 'Used', 'Of', 'Refused'], numbers: [3, 4],
      rows: c.users.map((u) => [[h('a', { href: userLink(u.org, u.user), className: 'id' }, u.user), u.org ? h('span', { className: 'small dim id' }, ` of ${u.org}`) : null].filter(Boolean),
        h('span', { className: 'id' }, u.plan), u.limit, number(u.used), number(u.of), u.endpoints?.length ? u.endpoints.join(', ') : 'all']),
    })) : null,
    c.done && c.yaml ? h('div', null, h('h3', null, 'To make it so'), h('p', { className: 'small dim' }, `Under plans: in gateway.yaml, replace ${replaced(tried)}, and keep the other plans. Variables are written out here. Save the file; the gateway notices by itself.`), snippet(c.yaml, 'The plans with these numbers, as YAML')) : null];
}

export function showPlans({ main, signal, session, live, route }) {
  const tried = triedIn(route.query);
  const status = h('p', { className: 'dim small' }, 'Reading users …');
  const fault = h('div');
  const list = h('div', { className: 'grid2 plans' }, h('div', { className: 'card' }, ghosts()), h('div', { className: 'card' }, ghosts()));
  const result = h('div', { className: 'stack result' });
  const back = h('button', { type: 'button', className: 'button small', click: forget }, 'Back to the numbers of now');
  const whatIf = card('What if', { aside: back, hidden: true, id: 'what-if' }, h('div', { className: 'body stack' },
    h('p', null, h('b', null, 'Nothing is changed.'), ' This compares what everybody has used with the numbers that you try, by the rules of metergate plan-check.'), result));
  main.append(heading('Plans', h('p', null, 'Try another number in a field: the console shows whom it would block. Only the configuration file changes a plan.')), fault,
    h('div', { className: 'stack' }, list, status), whatIf);

  const cards = new Map(); // by the plan's name
  function showPlan(p, defaultPlan) {
    let shown = cards.get(p.name);
    if (!shown) {
      const facts = slot(h('div', { className: 'stack' }), (plan) => planFacts(plan, session));
      const then = slot(h('div'), (found) => found && h('p', { className: `banner ${found.then > found.now ? 'bad' : 'ok'}` }, `With ${found.trying > 1 ? 'these numbers' : 'this number'}: ${number(found.then)} blocked, now ${number(found.now)}. `, h('button', { type: 'button', className: 'quiet', 'data-key': 'details', click: () => { whatIf.scrollIntoView(); whatIf.querySelector('h2').focus(); } }, 'Show whom')));
      const fields = slot(h('div'), (plan) => limitFields(plan, session, tried, onTry));
      const about = slot(h('div'), (texts) => texts && h('p', { className: 'small dim' }, texts));
      const tag = slot(h('span'), (isDefault) => isDefault && h('span', { className: 'tag' }, 'default'));
      const element = card(p.name, { aside: tag }, h('div', { className: 'body stack' }, fields, then, about, facts));
      shown = { element, fields, then, about, tag, facts };
      cards.set(p.name, shown);
      list.append(element);
    }
    shown.limits = p.limits;
    shown.fields.show({ name: p.name, limits: p.limits });
    shown.about.show([p.observe && 'observe: refuses nothing', p.concurrent && `${number(p.concurrent)} at once`, p.anchor && p.anchor !== 'calendar' && (p.anchor === 'claim' ? 'months begin on the customer’s own day' : 'months begin on the day of first use')].filter(Boolean).join(', '));
    shown.tag.show(p.name === defaultPlan);
    shown.facts.show({ name: p.name, users: p.users, near: p.near, blocked: p.blocked, histogram: p.histogram, limits: p.limits });
  }

  function dropPlans(plans) {
    for (const [name, shown] of cards) {
      if (plans.some((p) => p.name === name)) continue;
      shown.element.remove();
      cards.delete(name);
    }
  }

  let loading;
  async function load() {
    loading?.abort();
    const own = loading = new AbortController();
    fault.replaceChildren();
    try {
      for await (const data of pages('plans', { signal: AbortSignal.any([signal, own.signal]) })) {
        if (!cards.size) list.replaceChildren();
        dropPlans(data.plans);
        for (const p of data.plans) showPlan(p, data.default_plan);
        showThen();
        status.replaceChildren(...(data.done ? [`${plural(data.scanned, 'user')} read, as of `, time(data.as_of, 'time')] : [`${plural(data.scanned, 'user')} read so far …`]));
        if (data.done && !data.plans.length) list.replaceChildren(h('div', { className: 'card' }, empty('No plans', 'The configuration has none.')));
      }
    } catch (error) {
      if (own.signal.aborted || signal.aborted) return;
      if (!cards.size) list.replaceChildren();
      status.textContent = '';
      fault.replaceChildren(failure(error, load));
    }
  }

  const settings = () => [...tried].map(([key, n]) => ['set', `${key}=${n}`]);
  let typing, checking;
  function onTry(key, n) {
    if (n === null) tried.delete(key);
    else tried.set(key, n);
    clearTimeout(typing);
    typing = setTimeout(check, 250);
  }

  let checked = null; // the last answer
  /** Says in the plans whose numbers are tried how many of their users would be blocked. */
  function showThen() {
    for (const [name, shown] of cards) {
      const p = checked?.plans.find((plan) => plan.name === name);
      const trying = [...tried.keys()].filter((key) => planOf(key) === name).length;
      shown.then.show(p && trying ? { now: p.blocked_now + p.on_endpoint_now, then: p.blocked_then + p.on_endpoint_then, trying } : null);
    }
  }

  async function check() {
    checking?.abort();
    const own = checking = new AbortController();
    history.replaceState(null, '', withQuery('#/plans', settings()));
    whatIf.hidden = !tried.size;
    if (!tried.size) {
      checked = null;
      showThen();
      return;
    }
    if (!result.childElementCount) result.replaceChildren(ghosts(2));
    try {
      for await (const data of pages('plans/check', { query: settings(), signal: AbortSignal.any([signal, own.signal]) })) {
        patch(result, showCheck(data, tried));
        checked = data;
        showThen();
        if (data.done) document.getElementById('spoken').textContent = result.querySelector('.banner').textContent;
      }
    } catch (error) {
      if (!own.signal.aborted && !signal.aborted) result.replaceChildren(failure(error, check));
    }
  }

  /** Checks by another configuration. What it has made so is no longer tried. */
  function checkAgain() {
    for (const [name, { limits }] of cards) for (const l of limits) if (tried.get(`${name}/${l.name}`) === l.amount) tried.delete(`${name}/${l.name}`);
    if (!signal.aborted) check();
  }

  function forget() {
    tried.clear();
    result.replaceChildren();
    cards.clear();
    list.replaceChildren(h('div', { className: 'card' }, ghosts()));
    check();
    load();
    main.querySelector('h1').focus();
  }

  signal.addEventListener('abort', () => clearTimeout(typing), { once: true });
  // Another configuration may have other plans.
  let configHash = live.overview?.config?.hash;
  live.addEventListener('overview', ({ detail: { config } }) => {
    const changed = configHash && configHash !== config?.hash;
    configHash = config?.hash;
    if (changed) load().then(checkAgain);
  }, { signal });
  load();
  if (tried.size) check();
}
