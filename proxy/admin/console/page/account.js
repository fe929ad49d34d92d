// One user, or one organisation: limits, history, plan, audit log, and what can be changed about them.
import { call, pages } from './api.js';
import { clearPlan, grant, grantable, refreshDialogs, reset, setPlan } from './changes.js';
import { chart } from './charts.js';
import { bar, card, empty, endGhosts, failure, ghosts, h, slot, table } from './dom.js';
import { amountName, dateText, number, percent, plural, time } from './format.js';
import { grantsOf, limitKey, limitRow, memberText } from './limits.js';
import { accountPath, isUnreachable, orgLink, userLink, usersLink } from './route.js';
import { statusBadge } from './users.js';

const historyDays = 30;
const lookEvery = 3000; // ms

function showLimits({ user, warnAt, unitName }) {
  const grants = grantsOf(user);
  const alone = user.members && memberText(user.members, unitName);
  if (!user.limits.length) {
    const counted = `${number(user.used)} ${amountName(user.unit, unitName)} are counted ${user.period?.per === 'ever' ? 'in all' : `this ${user.period?.per ?? 'month'}`}.`;
    return empty(alone ? 'No shared limits' : 'No limits', alone ? `The plan ${user.plan} has none. ${alone} ${counted}` : `The plan ${user.plan} has none here. ${counted}`);
  }
  return [h('ul', { className: 'limits' }, user.limits.map((l) => limitRow(l, {
    warnAt, unitName, granted: grants.get(limitKey(l)), held: isHeadline(l, user) ? user.in_flight : 0, observe: user.observe,
  }))), alone ? h('p', { className: 'body small dim' }, alone) : null];
}

const isHeadline = (l, user) => !l.endpoint && !l.soft && l.limit === user.limit && l.used === user.used && l.per === user.period?.per;

/** The status that a search finds the user with, and what it is about. */
function statusOf({ nearest, observe, blocked_by: blockedBy }) {
  if (!nearest) return [statusBadge('ok'), ' no limit that refuses'];
  const { status, limit, used, of, percent: part } = nearest;
  if (observe && used >= of) return [statusBadge(status), ` ${limit} is used up, but observe refuses nothing`];
  return [statusBadge(status), blockedBy.length ? ` nothing is left of ${blockedBy.join(', ')}` : ` ${percent(part)} of ${limit}`];
}

function showFacts({ user, isOrg, unitName }) {
  const running = user.concurrent
    ? [`${number(user.concurrent.running ?? user.concurrent.used ?? 0)} of ${number(user.concurrent.limit ?? user.concurrent.requests)} at once`]
    : [user.in_flight ? `${number(user.in_flight)} of the headline limit held by them` : 'none'];
  const rows = [
    ['Status', ...statusOf(user)],
    isOrg ? null : ['Running requests', ...running],
    ['Plan', user.plan],
    isOrg ? null : ['Token says', user.claimed ?? 'not known: no request was admitted yet', user.claimed ? h('span', { className: 'dim' }, ', at the last admitted request') : ''],
    ['Chosen here', ...(user.override ? [user.override.plan, user.override.until ? [' until ', time(user.override.until)] : ' without an end', user.override.shared ? ', for all of the organisation' : ''] : ['no: the token says the plan'])],
    user.org && !isOrg ? ['Organisation', h('a', { href: orgLink(user.org), className: 'id' }, user.org)] : null,
    user.anchor ? ['Months begin', `on day ${number(user.anchor.day)}`, user.anchor.from ? [' from ', time(user.anchor.from), ' on'] : '', user.anchor.set ? ', set by an administrator' : ''] : null,
    user.exhausts_at ? ['Used up', 'at the pace of the last seven days on ', time(user.exhausts_at)] : null,
  ];
  return h('dl', { className: 'facts' }, rows.filter(Boolean).map(([name, ...values]) => h('div', null, h('dt', null, name), h('dd', null, values))));
}

function showEndpoints({ user, unitName }) {
  const entries = Object.entries(user.endpoints ?? {});
  if (!entries.length) return empty('No endpoints', 'No route of the configuration has one.');
  const units = entries.some(([, e]) => e.units !== undefined);
  return table({
    caption: 'Used by endpoint', head: ['Endpoint', 'Requests', ...(units ? [unitName || 'Units'] : []), 'Its own limit'], numbers: units ? [1, 2, 3] : [1, 2],
    rows: entries.map(([name, e]) => [h('span', { className: 'id' }, name), number(e.used), ...(units ? [number(e.units)] : []), e.limit === undefined || e.limit === null ? '–' : number(e.limit)]),
  });
}

const actionNames = { grant: 'Grant', reset: 'Reset', set_plan: 'Plan chosen', clear_plan: 'Plan cleared', set_counts: 'Counts set', set_anchor: 'First day set', clear_anchor: 'First day cleared' };

function auditText(e, unitName) {
  const where = e.endpoint ? ` to ${e.endpoint}` : '';
  if (e.requests) return `${plural(e.requests, 'request')}${where}${e.per ? `, ${e.per}` : ''}`;
  if (e.units) return `${number(e.units)} ${amountName('units', unitName)}${where}${e.per ? `, ${e.per}` : ''}`;
  if (e.plan) return [e.plan, e.until ? [' until ', time(e.until)] : ''];
  if (e.anchor) return e.anchor;
  if (e.counts) return plural(Object.keys(e.counts).length, 'endpoint');
  return '';
}

function showAudit({ entries, unitName }) {
  if (!entries.length) return empty('Nothing was changed', 'Grants, resets and plans that administrators choose appear here, with their reasons.');
  return table({
    caption: 'What administrators have changed', head: ['When', 'Change', 'Reason', 'From'], many: true,
    rows: entries.map((e) => [time(e.at), [h('b', null, actionNames[e.action] ?? e.action), ' ', h('span', { className: 'id' }, auditText(e, unitName))],
      h('span', { className: 'id' }, e.reason ?? ''), e.by ?? '']),
  });
}

/** The history as a chart with a table; without one, how to have it. */
function historyCard(path, session, signal) {
  const days = Math.min(historyDays, session.history_days || historyDays);
  const body = h('div', { className: 'body' }, ghosts());
  const element = card(`History of ${plural(days, 'day')}`, null, body);
  if (!session.history_days) {
    body.replaceChildren(empty('No history is kept', 'Set history.keep in gateway.yaml and restart the gateway. Days are counted from then on.'));
    return { element, read: async () => null, show() {} };
  }
  let drawn, unit;
  const endpoints = slot(h('div'), showDays);
  return {
    element,
    read: () => call(`${path}/history`, { query: { days }, signal }),
    /** Shows the history in the unit of the user's headline limit. */
    show(history, user) {
      if (!drawn || unit !== user.unit) {
        unit = user.unit;
        const name = amountName(unit, session.unit_name);
        drawn = chart({ title: `${name} on each day`, lines: [{ label: name, ink: 'ink-a' }], format: number, bars: true, signal });
        body.replaceChildren(drawn, endpoints);
      }
      drawn.show(history.days.map((d) => Date.parse(`${d.date}T00:00:00Z`) / 1000), [history.days.map((d) => (unit === 'units' ? d.units ?? d.used : d.used))]);
      endpoints.show(history.days);
    },
  };
}

function showDays(days) {
  const used = days.filter((d) => d.used);
  if (!used.length) return h('p', { className: 'dim small' }, 'Nothing was used on these days.');
  return h('details', { className: 'numbers' }, h('summary', null, 'Show endpoints by day'), table({
    caption: 'Used on each day, by endpoint', head: ['Day', 'Requests', 'By endpoint'], numbers: [1],
    rows: used.toReversed().map((d) => [dateText(d.date), number(d.used), Object.entries(d.endpoints).filter(([, e]) => e.used).map(([name, e]) => `${name} ${number(e.used)}`).join(', ')]),
  }));
}

function showMembers({ page, org }) {
  if (!page.users.length) return page.done ? empty('No members yet', 'Members appear here with their first request that is counted.') : ghosts(3);
  return [table({
    caption: `Members of ${org}`, head: ['Member', 'Used', 'Nearest limit', 'Status'], numbers: [1],
    rows: page.users.map((u) => [h('a', { href: userLink(u.org ?? org, u.user), className: 'id', 'data-key': u.user }, u.user), number(u.used),
      u.nearest ? h('span', { className: 'measure' }, bar([u.nearest.percent / 100, { warning: 'warn', blocked: 'bad' }[u.status] ?? 'ok']), h('span', null, percent(u.nearest.percent))) : 'no limit', statusBadge(u.status)]),
  }), h('p', { className: 'body small dim' }, `${number(page.users.length)} of ${plural(page.matched, 'member')}. `, h('a', { href: usersLink({ org }) }, 'Search all of them'))];
}

/** A user without the time of the answer, which alone is no reason to draw anything again. */
const timeless = ({ as_of: _, ...rest }) => rest;
const known = (user) => JSON.stringify(timeless(user));

export function showAccount({ main, signal, session, live, route, admin }) {
  const [org, id] = route.ids;
  const name = id || org, isOrg = !id, path = accountPath(org, id);
  const { warn_at: warnAt, unit_name: unitName } = session;
  const crumb = h('p', { className: 'crumb' }, h('a', { href: '#/users' }, 'Users'), ' / ', org && id ? [h('a', { href: orgLink(org), className: 'id' }, org), ' / '] : null, isOrg ? 'Organisation' : 'User');
  const plan = h('span', { className: 'tag', hidden: true });
  main.append(h('div', { className: 'title' }, crumb, h('h1', { tabIndex: -1 }, name, ' ', plan)));
  if (isUnreachable(org) || isUnreachable(id)) {
    main.append(h('p', { className: 'banner warn' }, `Browsers cannot ask for an id that is a folder’s name, such as "${name}". Use the command metergate usage.`));
    return;
  }

  const fault = h('div');
  const note = slot(h('div'), (user) => (user.stale ? h('p', { className: 'banner warn' }, 'The store does not answer. These are the last numbers that this gateway knows.')
    : !isOrg && !user.used && user.claimed === null && !user.override && !user.limits.some((l) => l.used) ? h('p', { className: 'banner' }, 'Nothing is counted for this user. The gateway answers for any id, so check that it is written right.') : null));
  const limits = slot(h('div', null, ghosts()), showLimits);
  const facts = slot(h('div', { className: 'body' }, ghosts()), showFacts);
  const endpoints = slot(h('div', null, ghosts(2)), showEndpoints);
  const audit = slot(h('div', null, ghosts(2)), showAudit);
  const history = isOrg ? null : historyCard(path, session, signal);
  const members = isOrg ? slot(h('div', null, ghosts(3)), showMembers) : null;
  const buttons = actionButtons();
  main.append(...[fault, note,
    h('div', { className: 'grid2 uneven' },
      h('div', { className: 'stack wide-gap' }, card(isOrg ? 'Shared limits' : 'Limits', null, limits), history?.element, isOrg ? card('Members', null, members) : null),
      h('div', { className: 'stack wide-gap' }, card('Plan and state', null, facts), buttons.element, isOrg ? null : card('Endpoints', null, endpoints))),
    card('Audit log', null, audit)].filter(Boolean));

  let current = null;
  function showUser(user) {
    const changed = !current || known(user) !== known(current);
    current = user;
    refreshDialogs(changed);
    plan.textContent = user.plan;
    plan.hidden = false;
    const rest = timeless(user);
    note.show(rest);
    limits.show({ user: rest, warnAt, unitName });
    facts.show({ user: rest, isOrg, unitName });
    endpoints.show({ user: rest, unitName });
    buttons.show(user);
  }

  function actionButtons() {
    if (!admin) return { element: card('Changes', null, h('p', { className: 'body dim' }, 'You are signed in as viewer, who can see everything and change nothing. Sign in with admin.token to make changes.')), show() {} };
    const button = (text, run, first) => h('button', { type: 'button', className: `button ${first ? 'first' : ''}`, disabled: true, click: () => change(run) }, text);
    const all = { grant: button('Grant more', grant, true), reset: button('Reset', reset), plan: button('Change the plan', setPlan), clear: button('Clear the chosen plan', clearPlan) };
    all.clear.hidden = true;
    const why = h('p', { className: 'dim small' }, 'Each change asks for a reason, and says first what it will do.');
    return {
      element: card('Changes', null, h('div', { className: 'body stack' }, h('div', { className: 'buttons' }, Object.values(all)), why)),
      show(user) {
        for (const b of Object.values(all)) b.disabled = false;
        all.grant.hidden = !grantable(user).length;
        all.clear.hidden = !user.override || Boolean(user.override.shared && !isOrg);
      },
    };
  }

  async function change(run) {
    let unread = '';
    const ready = call(path, { signal }).then(showUser, (error) => { unread = error.message; });
    const asOf = () => [current.stale || unread ? 'These numbers may be old: they are as of ' : 'As of ', time(current.as_of, 'time'), '.', unread && ` ${unread}`];
    const done = await run({ latest: () => current, ready, asOf, name, path, session });
    if (!done || signal.aborted) return;
    showUser(done.after);
    if (document.activeElement === document.body) main.querySelector('h1').focus();
    load();
  }

  let busy = false, again = false;
  /** Reads everything again. One at a time: an event that comes meanwhile makes it read once more. */
  async function load() {
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    try {
      const [user, log, days] = await Promise.all([call(path, { signal }), call(`${path}/audit`, { signal }), history?.read()]);
      fault.replaceChildren();
      showUser(user);
      if (days) history.show(days, user);
      audit.show({ entries: log.entries, unitName });
      if (members) await readMembers();
    } catch (error) {
      if (signal.aborted) return;
      showFault(error);
    } finally {
      busy = false;
      if (again && !signal.aborted) {
        again = false;
        load();
      }
    }
  }

  /** Says what went wrong, once: what is shown already stays, and keeps the focus. */
  function showFault(error) {
    if (fault.dataset.message !== error.message || !fault.childElementCount) {
      fault.dataset.message = error.message;
      fault.replaceChildren(failure(error, load), ...(current ? [h('p', { className: 'banner warn' }, 'What is shown here is as of ', time(current.as_of, 'time'), '.')] : []));
    }
    endGhosts(main);
  }

  async function readMembers() {
    let shown = false;
    for await (const page of pages('search/users', { query: { org, limit: 20 }, signal })) {
      if (page.done || !shown) members.show({ org, page: { users: page.users, matched: page.matched, done: page.done } });
      shown = page.done || page.users.length > 0;
    }
  }

  let looking = false;
  /** Looks whether anything has changed, with one short request, whether the console is live or not. */
  async function look() {
    if (busy || looking || document.visibilityState === 'hidden') return;
    looking = true;
    try {
      const user = await call(path, { signal });
      if (fault.childElementCount || !current || known(user) !== known(current)) load();
      else showUser(user);
    } catch (error) {
      if (!signal.aborted) showFault(error);
    } finally {
      looking = false;
    }
  }

  const timer = setInterval(look, lookEvery);
  signal.addEventListener('abort', () => clearInterval(timer), { once: true });
  live.addEventListener('state', () => { if (live.state === 'live') load(); }, { signal });
  load();
}
