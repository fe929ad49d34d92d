// The console's frame: who is signed in, which view is shown, and whether it is live.
import { call, forgetToken, getToken, whenRefused } from './api.js';
import { closeDialogs } from './changes.js';
import { h, heading, empty } from './dom.js';
import { time, timeText } from './format.js';
import { Live } from './live.js';
import { parseHash } from './route.js';
import { showSignIn } from './signin.js';
import { showOverview } from './overview.js';
import { showUsers } from './users.js';
import { showAccount } from './account.js';
import { showPlans } from './plans.js';
import { showUpstreams } from './upstreams.js';

const $ = (id) => document.getElementById(id);
const themeKey = 'metergate-console-theme';

const views = { overview: showOverview, users: showUsers, user: showAccount, org: showAccount, plans: showPlans, upstreams: showUpstreams };
const tabs = { user: 'users', org: 'users' }; // the entry of the navigation, where it is not the view's own

const live = new Live();
let session = null; // what GET /admin/session has answered
let leaving = new AbortController(); // ends what the shown view does

function show(view, { focus = true } = {}) {
  leaving.abort();
  closeDialogs(); // they are about what the view has shown
  leaving = new AbortController();
  const main = $('main');
  main.replaceChildren();
  scrollTo(0, 0);
  view(main, leaving.signal);
  if (focus) (main.querySelector('#token') ?? main.querySelector('h1') ?? main).focus({ preventScroll: true });
}

function navigate(options) {
  const route = parseHash(location.hash);
  for (const link of $('nav').children) {
    if (link.dataset.view === (tabs[route.view] ?? route.view)) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  const app = { session, live, route, admin: session.role === 'admin' };
  show((main, signal) => {
    const view = views[route.view];
    const name = route.ids.filter(Boolean).pop() ?? (view ? route.view[0].toUpperCase() + route.view.slice(1) : 'Not found');
    document.title = `${name} · Metergate console`;
    if (view) view({ ...app, main, signal });
    else main.append(heading('Nothing is here'), h('div', { className: 'card' }, empty('This address leads nowhere', 'Choose a view from the navigation.')));
  }, options);
}

function signIn(fault) {
  session = null;
  live.stop();
  $('side').hidden = true;
  document.title = 'Sign in · Metergate console';
  show((main) => showSignIn(main, fault, start));
}

/** Begins with a token that the gateway has accepted. */
function start(accepted, options) {
  session = accepted;
  $('side').hidden = false;
  $('role').textContent = session.role === 'admin' ? 'Signed in as admin' : 'Signed in as viewer';
  $('version').textContent = `Metergate ${session.version ?? ''}`;
  live.start();
  navigate(options);
}

whenRefused((problem) => {
  if (!session && !getToken()) return;
  forgetToken();
  signIn(problem.status === 403 ? 'The gateway has no admin token any more: admin.token is not set.'
    : 'The gateway does not accept the token any more. It was changed, or the gateway has restarted with another one.');
});

function showLive() {
  const pill = $('live');
  pill.dataset.state = live.state;
  pill.title = live.why ? `Not live: ${live.why}` : '';
  pill.lastElementChild.replaceChildren(...(live.state === 'live' ? ['Live']
    : live.state === 'off' ? ['Not live since ', time(live.since, 'time')] : ['Connecting']));
  if (!session || live.state === 'idle') return;
  const spoken = live.state === 'off' ? `The console is not live since ${timeText(live.since)}.` : 'The console is live.';
  if (live.state === 'off' || showLive.wasOff) $('spoken').textContent = spoken;
  showLive.wasOff = live.state === 'off';
}
live.addEventListener('state', showLive);

// Another configuration may have other plans, and another role for this token.
let configHash = null;
live.addEventListener('overview', async ({ detail: { config } }) => {
  const changed = configHash && configHash !== config?.hash;
  configHash = config?.hash;
  if (!changed) return;
  const before = session;
  try {
    const now = await call('session');
    if (session !== before || !session) return;
    if (now.role !== session.role) start(now);
    else session = now; // the next view has it
  } catch { /* the next change asks again; a refused token leads to signing in */ }
});

function useTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  document.dispatchEvent(new Event('themechange'));
}
$('theme').value = sessionStorage.getItem(themeKey) ?? '';
useTheme($('theme').value);
$('theme').addEventListener('change', ({ target }) => {
  sessionStorage.setItem(themeKey, target.value);
  useTheme(target.value);
});
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => document.dispatchEvent(new Event('themechange')));

$('sign-out').addEventListener('click', () => {
  forgetToken();
  signIn({ text: 'You are signed out.', tone: '' });
});
$('skip').addEventListener('click', (event) => {
  event.preventDefault(); // its hash would be taken for a view
  $('main').focus();
});
addEventListener('hashchange', () => { if (session) navigate(); });

if (getToken()) {
  $('main').append(h('p', { className: 'dim' }, 'Signing in'));
  call('session', { quiet: true }).then((accepted) => start(accepted, { focus: false }), (problem) => {
    if (problem.status) forgetToken();
    signIn(problem.status === 401 ? 'The gateway does not accept the token of this tab any more.' : problem.message);
  });
} else {
  signIn();
}
