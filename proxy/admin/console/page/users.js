// Finding users: search, sort and filter. The gateway reads its store and streams what it has found so
// far, so the first users are there at once, however many there are.
import { pages } from './api.js';
import { badge, bar, card, empty, failure, ghosts, h, heading, newID, patch } from './dom.js';
import { amountName, number, percent, plural, time } from './format.js';
import { orgLink, userLink, usersLink } from './route.js';

const limit = 50; // users of a page
const columns = [
  { name: 'user', label: 'User', first: 'asc' },
  { name: 'plan', label: 'Plan', first: 'asc' },
  { name: 'used', label: 'Used', first: 'desc', number: true },
  { name: 'percent', label: 'Nearest limit', first: 'desc' },
];
const defaults = { q: '', plan: '', state: 'any', org: '', sort: 'percent', order: 'desc', after: '' };
export const tones = { ok: 'ok', warning: 'warn', blocked: 'bad' };

/** The badge of a user's status. */
export function statusBadge(status) {
  return badge(tones[status] ?? '', { ok: 'ok', warning: 'near', blocked: 'blocked' }[status] ?? status);
}

function row(u, session) {
  const nearest = u.nearest;
  const name = h('a', { href: userLink(u.org, u.user), className: 'id', 'data-key': `${u.org ?? ''}/${u.user}` }, u.user);
  return h('tr', null,
    h('th', { scope: 'row' }, name, u.org ? h('div', { className: 'small dim id' }, 'of ', h('a', { href: orgLink(u.org) }, u.org)) : null,
      h('div', { className: 'narrow small dim id' }, u.plan)),
    h('td', { className: 'wide id' }, u.plan, u.override ? [' ', h('span', { className: 'tag' }, 'override')] : null),
    h('td', { className: 'number nowrap' }, number(u.used), u.limit === null || u.limit === undefined ? null : h('span', { className: 'dim' }, ` of ${number(u.limit)}`),
      h('div', { className: 'small dim' }, amountName(u.unit, session.unit_name))),
    h('td', null, nearest
      ? [h('span', { className: 'measure' }, bar([nearest.percent / 100, tones[u.status]]), h('span', null, percent(nearest.percent))),
        h('div', { className: 'small dim id' }, `${nearest.limit}: ${number(nearest.used)} of ${number(nearest.of)}`)]
      : h('span', { className: 'dim' }, 'no limit')),
    h('td', { className: 'wide' }, statusBadge(u.status)));
}

/** A field of the filter, which changes the list when it is changed. */
function field(label, input) {
  const id = newID();
  input.id = id;
  return h('div', { className: 'field' }, h('label', { htmlFor: id }, label), input);
}

const option = (value, text) => h('option', { value }, text);

export function showUsers({ main, signal, session, route }) {
  const wanted = { ...defaults };
  for (const name of Object.keys(defaults)) if (route.query.get(name)) wanted[name] = route.query.get(name);
  const q = h('input', { type: 'search', value: wanted.q, placeholder: 'Part of an id', spellcheck: false, autocomplete: 'off' });
  const org = session.orgs ? h('input', { type: 'search', value: wanted.org, placeholder: 'Its whole id', spellcheck: false, autocomplete: 'off' }) : null;
  const plan = h('select', null, option('', 'All plans'), (session.plans ?? []).map((name) => option(name, name)));
  const state = h('select', null, option('any', 'All users'), option('near', `Near a limit (${session.warn_at ?? 80}% and more)`), option('blocked', 'Blocked'));
  plan.value = wanted.plan;
  state.value = wanted.state;

  const status = h('p', { className: 'dim small', id: 'users-status' }, 'Reading users');
  const body = h('tbody');
  const heads = columns.map((column) => {
    const button = h('button', { type: 'button', className: 'sort', click: () => sortBy(column) }, column.label, h('span', { ariaHidden: 'true' }));
    return h('th', { scope: 'col', className: `${column.number ? 'number' : ''} ${column.name === 'plan' ? 'wide' : ''}` }, button);
  });
  const list = h('table', { className: 'users', 'aria-describedby': 'users-status' },
    h('caption', { className: 'hidden' }, 'Users'),
    h('thead', null, h('tr', null, heads, h('th', { scope: 'col', className: 'wide' }, 'Status'))), body);
  const found = h('div', { className: 'found' }, list);
  const turn = h('div', { className: 'buttons body', hidden: true });
  const openOrg = h('a', { className: 'button small', hidden: true }, 'Open the organisation');
  main.append(
    heading('Users', h('p', null, 'Everybody whom the store knows, also those who have used nothing in the running windows.')),
    h('form', { className: 'filters', role: 'search', submit: (event) => { event.preventDefault(); change(); } },
      field('Search', q), org ? field('Organisation', org) : null, field('Plan', plan), field('Show', state)),
    card('Users', { aside: h('span', { className: 'buttons' }, openOrg, status) }, found, turn));

  function showWanted() {
    columns.forEach((column, i) => {
      const sorted = wanted.sort === column.name;
      if (sorted) heads[i].ariaSort = wanted.order === 'asc' ? 'ascending' : 'descending';
      else heads[i].removeAttribute('aria-sort');
      heads[i].querySelector('span').textContent = sorted ? (wanted.order === 'asc' ? ' ↑' : ' ↓') : '';
    });
    openOrg.hidden = !wanted.org;
    if (wanted.org) openOrg.href = orgLink(wanted.org);
  }

  const query = (changes = {}) => Object.fromEntries(Object.entries({ ...wanted, ...changes }).filter(([name, value]) => value !== defaults[name]));

  function change(changes = {}) {
    Object.assign(wanted, { q: q.value.trim(), org: org ? org.value.trim() : '', plan: plan.value, state: state.value, after: '' }, changes);
    history.replaceState(null, '', usersLink(query()));
    showWanted();
    load();
  }

  function sortBy(column) {
    change(wanted.sort === column.name ? { order: wanted.order === 'asc' ? 'desc' : 'asc' } : { sort: column.name, order: column.first });
  }

  let typing;
  const later = () => { clearTimeout(typing); typing = setTimeout(change, 250); };
  q.addEventListener('input', later);
  org?.addEventListener('input', later);
  plan.addEventListener('change', () => change());
  state.addEventListener('change', () => change());

  function showPage(page) {
    patch(body, page.users.map((u) => row(u, session)));
    list.hidden = false;
    found.querySelector('.empty, .ghosts')?.remove();
    if (page.done && !page.users.length) {
      list.hidden = true;
      found.append(wanted.after ? empty('No more users', 'This page is empty now. Go back to the first one.')
        : Object.keys(query()).some((name) => !['sort', 'order'].includes(name)) ? empty('No users found', 'None fits the search and the filters.')
          : empty('No users yet', 'A user appears here with the first request that is counted.'));
    }
    status.replaceChildren(...(page.done
      ? [`${plural(page.matched, 'user')} of ${number(page.scanned)}, as of `, time(page.as_of, 'time')]
      : [`${plural(page.scanned, 'user')} read, ${number(page.matched)} found so far …`]));
    list.ariaBusy = page.done ? null : 'true';
    turn.replaceChildren(...[
      wanted.after ? h('a', { className: 'button', href: usersLink(query({ after: '' })) }, 'First page') : null,
      page.next ? h('a', { className: 'button', href: usersLink(query({ after: page.next })) }, 'Next page') : null].filter(Boolean));
    turn.hidden = !turn.childElementCount;
  }

  let loading;
  async function load() {
    loading?.abort();
    const own = loading = new AbortController();
    found.querySelectorAll('.banner, .empty').forEach((old) => old.remove());
    if (!body.childElementCount) {
      list.hidden = true;
      found.querySelector('.ghosts')?.remove();
      found.append(ghosts(6));
    }
    status.textContent = 'Reading users …';
    let last = null;
    try {
      for await (const page of pages('search/users', { query: { ...query(), sort: wanted.sort, order: wanted.order, limit }, signal: AbortSignal.any([signal, own.signal]) })) {
        last = page;
        showPage(page);
      }
      document.getElementById('spoken').textContent = `${plural(last.matched, 'user')} found.`;
    } catch (error) {
      if (own.signal.aborted || signal.aborted) return;
      found.querySelector('.ghosts')?.remove();
      list.hidden = !last;
      status.textContent = last ? 'Not complete' : '';
      found.prepend(failure(error, load));
    }
  }
  showWanted();
  load();
}
