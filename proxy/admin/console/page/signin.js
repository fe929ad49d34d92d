// Signing in: the gateway says whether it accepts a token, and what its holder may do.
import { call, forgetToken, getToken, keepToken } from './api.js';
import { h } from './dom.js';
import { plural } from './format.js';

/** What to tell a person whose token was not accepted. */
function faultText({ status, message, retryAfter }) {
  if (status === 401) return 'This token is wrong. It must be admin.token or admin.viewer_token of this gateway’s configuration.';
  if (status === 429) {
    return `This token is wrong, and too many wrong tokens were sent from your address before. ${retryAfter ? `The next one is checked in ${plural(retryAfter, 'second')}. ` : ''}The right token is accepted at any time.`;
  }
  if (status === 403 && message.includes('admin.token')) {
    return 'Nobody can sign in: this gateway has no admin.token. Set it in gateway.yaml, reload, and try again.';
  }
  return message;
}

/** fault: why the person has to sign in, a text or { text, tone }; onSession gets the session. */
export function showSignIn(main, fault, onSession) {
  const message = h('div', { id: 'sign-in-fault', role: 'alert' });
  const showFault = (given) => {
    const { text, tone = ' bad' } = typeof given === 'object' ? given : { text: given };
    message.replaceChildren(h('p', { className: `banner${tone}` }, text));
  };
  const token = h('input', {
    id: 'token', type: 'password', autocomplete: 'off', spellcheck: false, 'autocapitalize': 'none',
    'aria-describedby': 'sign-in-fault token-hint',
  });
  const button = h('button', { className: 'button first' }, 'Sign in');

  async function submit(event) {
    event.preventDefault();
    const text = token.value.trim();
    if (button.ariaBusy || !text) {
      if (!text) showFault('Enter a token.');
      token.focus();
      return;
    }
    button.ariaBusy = 'true';
    token.removeAttribute('aria-invalid');
    try {
      if (!/^[\x21-\x7e]+$/.test(text)) throw Object.assign(new Error(), { status: 401 });
      const session = await call('session', { token: text, quiet: true });
      keepToken(text);
      token.value = '';
      onSession(session);
    } catch (problem) {
      token.setAttribute('aria-invalid', 'true');
      showFault(faultText(problem));
      token.select();
    } finally {
      button.ariaBusy = null;
    }
  }

  if (fault) showFault(fault);
  if (getToken()) forgetToken();
  main.append(h('div', { className: 'sign-in' },
    h('p', { className: 'brand' }, h('img', { src: 'console/icon.svg', alt: '', width: 28, height: 28 }), h('b', null, 'Metergate'), ' ', h('span', { className: 'tag' }, 'Console')),
    h('section', { className: 'card body stack', 'aria-labelledby': 'sign-in-title' },
      h('h1', { id: 'sign-in-title', tabIndex: -1 }, 'Sign in'),
      message,
      h('form', { className: 'stack', noValidate: true, submit },
        h('div', { className: 'field' },
          h('label', { htmlFor: 'token' }, 'Token'), token,
          h('p', { className: 'hint', id: 'token-hint' }, 'With admin.token you can see and change everything, with admin.viewer_token only see it. The token is kept in this tab, until you sign out or close it.')),
        h('div', null, button)))));
}
