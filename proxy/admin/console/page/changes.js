// Changes of a user or an organisation. Each is a dialog that asks for a reason, and says in numbers what
// will happen before anything does.
import { call, isAboutToken, newKey, Problem } from './api.js';
import { h, newID, say } from './dom.js';
import { amountName, dayText, number } from './format.js';
import { changedLimit, leftText, limitKey, limitText, memberText, resetLimit, runningText } from './limits.js';
import { accountPath } from './route.js';

const maxReason = 1024;

/** A field of a dialog. check returns what is wrong with its value, or ''. */
export function field(label, input, { hint, check = () => '' } = {}) {
  const id = newID();
  input.id = id;
  const fault = h('p', { className: 'fault', id: `${id}-fault`, hidden: true });
  input.setAttribute('aria-describedby', `${id}-fault${hint ? ` ${id}-hint` : ''}`);
  const element = h('div', { className: 'field' }, h('label', { htmlFor: id }, label), input, hint ? h('p', { className: 'hint', id: `${id}-hint` }, hint) : null, fault);
  return {
    element,
    input,
    /** Shows what is wrong, and reports whether nothing is. */
    isGood() {
      const text = check(input.value);
      fault.textContent = text;
      fault.hidden = !text;
      if (text) input.setAttribute('aria-invalid', 'true');
      else input.removeAttribute('aria-invalid');
      return !text;
    },
  };
}

export function reasonField() {
  const reason = field('Reason', h('input', { type: 'text', maxLength: maxReason, autocomplete: 'off', required: true }), {
    hint: 'Colleagues read it in the audit log.',
    check: (text) => (!text.trim() ? 'Say why: the change is recorded with its reason.'
      : new TextEncoder().encode(text.trim()).length > maxReason ? `At most ${number(maxReason)} bytes.` : ''),
  });
  return Object.assign(reason, { changesNothing: true }); // of what will happen
}

const opened = new Set(); // dialogs

/** Closes all dialogs. What they have sent goes on, and its result is told. */
export function closeDialogs() {
  for (const dialog of opened) dialog.close();
}

/** Has all dialogs say as of when their numbers are and, if these have changed, what will happen. */
export function refreshDialogs(changed) {
  for (const dialog of opened) dialog.refresh(changed);
}

/** What went wrong with a change. again: what to do if it may have been made all the same. */
function faultOf(error, again) {
  const mayBeMade = !error.reason && (error.status === 0 || error.status >= 500);
  if (!again || !mayBeMade) return error.message;
  return `${error.status === 503 ? 'The store does not answer. The change may have been made.' : error.message} ${again}`;
}

/**
 * Asks in a dialog, sends what was answered, and tells its result, wherever the person is by then. effect
 * returns what will happen, as texts or elements, whenever a field changes; it may be a promise. It waits
 * for ready; asOf says as of when its numbers are. submit sends the change. The promise has its result, or
 * null if the person has cancelled.
 */
export function ask({ title, about, fields, effect, label, submit, again, ready, asOf = () => null }) {
  const id = newID();
  const what = h('div', { className: 'effect', ariaLive: 'polite' });
  const age = h('p', { className: 'small dim as-of' });
  const fault = h('div', { role: 'alert' });
  const send = h('button', { className: 'button first' });
  const cancel = h('button', { type: 'button', className: 'button', click: () => dialog.close() }, 'Cancel');
  const form = h('form', { noValidate: true, submit: onSubmit, input: onInput, change: onInput },
    fields.map((f) => f.element), what, age, fault, h('div', { className: 'buttons' }, send, cancel));
  const dialog = h('dialog', { 'aria-labelledby': id, close: onClose }, h('h2', { id }, title), about ? h('p', { className: 'dim' }, about) : null, form);
  dialog.refresh = (changed) => (changed ? showEffect() : showAge());

  let result = null, finish;
  const finished = new Promise((done) => { finish = done; });
  opened.add(dialog);
  document.body.append(dialog);
  let turn = 0;
  showEffect();
  dialog.showModal();
  return finished;

  function showAge() {
    age.replaceChildren(...[asOf()].flat().filter(Boolean));
    age.hidden = !age.childNodes.length;
  }

  async function showEffect() {
    const mine = ++turn;
    send.textContent = label();
    let shown;
    try {
      await ready;
      shown = await effect();
    } catch (error) {
      shown = [`What will happen is not known: ${error.message}`];
    }
    if (mine !== turn) return;
    what.replaceChildren(h('h3', null, 'What will happen'), h('ul', null, shown.map((text) => h('li', null, text))));
    showAge();
  }

  function onInput({ target }) {
    const changed = fields.find((f) => f.input === target);
    if (target.ariaInvalid) changed?.isGood();
    if (!changed?.changesNothing) showEffect();
  }

  function onClose() {
    opened.delete(dialog);
    dialog.remove();
    if (!send.ariaBusy) finish(result);
  }

  async function onSubmit(event) {
    event.preventDefault();
    if (send.ariaBusy) return;
    const bad = fields.filter((f) => !f.isGood());
    if (bad.length) {
      bad[0].input.focus();
      return;
    }
    send.ariaBusy = 'true';
    fault.replaceChildren();
    try {
      result = await submit();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (dialog.open) fault.replaceChildren(h('p', { className: 'banner bad' }, faultOf(error, again)));
      else if (!isAboutToken(error)) say(`${title}: ${faultOf(error, again)}`);
    } finally {
      send.ariaBusy = null;
      if (result) {
        dialog.close();
        say(result.text);
      }
      if (!dialog.isConnected) finish(result);
    }
  }
}

const option = (value, text) => h('option', { value }, text);
const reads = (user, session) => (l) => `${l.name}: ${limitText(l, session.unit_name)}${l.shared && user.user ? ' (shared)' : ''}`;

/** The limits that can be raised here: a member's own, or the shared ones of an organisation. */
export const grantable = (user) => user.limits.filter((l) => !l.soft && Boolean(l.shared) === !user.user);

const madeOnce = 'Press again: it is made once.';
const lookFirst = 'Look at the audit log before you press again.';

// The changes get a subject: latest() is the newest object of the user, ready a promise of one that was read
// for the dialog, and asOf says how old it is.

export async function grant({ latest, ready, asOf, name, path, session }) {
  const first = latest(), limits = grantable(first);
  const which = field('Limit', h('select', null, limits.map((l) => option(limitKey(l), reads(first, session)(l)))));
  const amount = field('How many more', h('input', { type: 'number', min: 1, step: 1, inputMode: 'numeric', value: 50 }), {
    check: (text) => (/^\d{1,15}$/.test(text.trim()) && Number(text) > 0 ? '' : 'Enter a whole number of at least 1.'),
  });
  const reason = reasonField();
  const isChosen = (l) => limitKey(l) === which.input.value;
  const chosen = () => grantable(latest()).find(isChosen) ?? limits.find(isChosen);
  const more = () => Number(amount.input.value) || 0;
  const unit = () => amountName(chosen().unit, session.unit_name);
  // Sent again after an answer was lost, the same grant has the same key, so it is made once.
  const sent = {};
  return ask({
    ready, asOf, again: madeOnce,
    title: `Grant more to ${name}`,
    fields: [which, amount, reason],
    label: () => `Grant ${number(more())} ${unit()}`,
    effect: () => {
      const l = chosen();
      return [changedLimit(l, l.limit + more()), l.resets_at ? `It holds until the limit renews, ${dayText(l.resets_at)}.` : 'It holds for ever: this limit does not renew.',
        first.user ? 'The next request has it already, on every gateway.' : 'The members’ next requests have it already, on every gateway.'];
    },
    submit: () => {
      const l = chosen();
      const body = { [l.unit === 'units' ? 'units' : 'requests']: more(), per: l.per, reason: reason.input.value.trim() };
      if (l.endpoint) body.endpoint = l.endpoint;
      const text = JSON.stringify(body), done = `Granted ${number(more())} ${unit()} to ${name}.`;
      if (sent.text !== text) Object.assign(sent, { text, key: newKey() });
      return call(`${path}/grants`, { method: 'POST', body, key: sent.key }).then((after) => ({ after, text: done }));
    },
  });
}

export async function reset({ latest, ready, asOf, name, path }) {
  const reason = reasonField();
  return ask({
    ready, asOf, again: lookFirst,
    title: `Reset what ${name} has used`,
    fields: [reason],
    label: () => 'Reset to 0',
    effect: () => {
      const user = latest(), own = user.limits.filter((l) => Boolean(l.shared) === !user.user);
      return [...(own.length ? own.map(resetLimit) : [`${number(user.used)} used in this window becomes 0.`]),
        'All running windows begin again at 0, on every gateway. It cannot be undone.', 'Running requests still count when they succeed. What was granted stays.'];
    },
    submit: () => call(`${path}/reset`, { method: 'POST', body: { reason: reason.input.value.trim() } }).then((after) => ({ after, text: `Reset what ${name} has used.` })),
  });
}

/** What a user will have under a plan: with what is used now, which stays. */
async function planEffect({ latest, path, session }, plan) {
  const user = latest();
  if (plan === user.plan) return [`The plan stays ${plan}.`];
  const then = await call(path, { query: { chosen: plan } });
  return [`The plan becomes ${plan}; now it is ${user.plan}. What is used stays, and so do grants to limits that both plans have.`,
    ...comparedLimits(then, user), ...otherTerms(then, session.unit_name)];
}

function comparedLimits(then, user) {
  const now = new Map(user.limits.map((l) => [limitKey(l), l]));
  const kept = new Set(then.limits.map(limitKey));
  return [...then.limits.map((l) => {
    const before = now.get(limitKey(l));
    const text = before ? changedLimit({ ...before, used: l.used }, l.limit)
      : `${l.name}: ${number(l.used)} of ${number(l.limit)} used, so ${leftText(Math.max(0, l.limit - l.used))}. The plan of now does not have this limit.`;
    return then.blocked_by.includes(l.name) ? `${text} ${refusedText(l)}` : text;
  }), ...user.limits.filter((l) => !kept.has(limitKey(l))).map((l) => `${l.name}: the plan ${then.plan} does not have this limit.`)];
}

const refusedText = (l) => `Requests${l.endpoint ? ` to ${l.endpoint}` : ''} are refused${l.limit === 0 || !l.resets_at ? '' : ` until the limit renews, ${dayText(l.resets_at)}`}.`;

/** What else a plan says: of an organisation, what its members may. */
function otherTerms(then, unitName) {
  const lines = [];
  if (!then.limits.length) lines.push(then.members ? 'It has no shared limits.' : 'It has no limits on what is used: requests are only counted.');
  if (then.members) lines.push(memberText(then.members, unitName));
  else if (then.concurrent) lines.push(`${runningText(then.concurrent.limit)} Now ${number(then.concurrent.running)} ${then.concurrent.running === 1 ? 'runs' : 'run'}.`);
  if (then.observe) lines.push('The plan observes: it refuses nothing, even above its limits.');
  return lines;
}

export async function setPlan({ latest, ready, asOf, name, path, session }) {
  const user = latest();
  const plan = field('Plan', h('select', null, (session.plans ?? []).map((p) => option(p, p))));
  plan.input.value = user.override?.plan ?? user.plan;
  const until = field('Until', h('input', { type: 'datetime-local' }), {
    hint: 'In your local time. Leave it empty for no end.',
    check: (text) => (text && !(new Date(text) > new Date()) ? 'It must be in the future.' : ''),
  });
  const reason = reasonField();
  return ask({
    ready, asOf, again: lookFirst,
    title: `Change the plan of ${name}`,
    about: user.user ? 'The plan applies whatever the user’s token says.' : 'The plan applies to all members for whom none was chosen, whatever their tokens say.',
    fields: [plan, until, reason],
    label: () => `Change the plan to ${plan.input.value}`,
    effect: async () => [...await planEffect({ latest, path, session }, plan.input.value),
      until.input.value ? `It ends ${dayText(until.input.value)}. Then the token’s plan applies again.` : 'It holds until somebody clears it.'],
    submit: () => {
      const body = { plan: plan.input.value, reason: reason.input.value.trim() };
      if (until.input.value) body.until = new Date(until.input.value).toISOString();
      return call(`${path}/plan`, { method: 'PUT', body }).then((after) => ({ after, text: `The plan of ${name} is ${body.plan} now.` }));
    },
  });
}

/** What happens when no plan is chosen for a user any more. */
async function clearEffect({ latest, path, session }) {
  const user = latest(), whose = 'The plan that was chosen here ends.';
  const ofOrg = user.user && user.org ? (await call(accountPath(user.org, ''))).override : null;
  if (ofOrg) return [`${whose} From the next request on, the plan that was chosen for ${user.org} applies.`, ...await planEffect({ latest, path, session }, ofOrg.plan)];
  const lines = [`${whose} From the next request on, the token says the plan again.`];
  if (!user.claimed) return [...lines, 'Which plan the token names is not known: this user has sent no request yet. Without one it is the default plan.'];
  if (!session.plans?.includes(user.claimed)) return [...lines, `The token names ${user.claimed}, which the configuration does not have. The default plan applies then.`];
  return [...lines, ...await planEffect({ latest, path, session }, user.claimed)];
}

export async function clearPlan({ latest, ready, asOf, name, path, session }) {
  const reason = reasonField();
  return ask({
    ready, asOf, again: lookFirst,
    title: `Clear the plan of ${name}`,
    fields: [reason],
    label: () => 'Clear the plan',
    effect: () => clearEffect({ latest, path, session }),
    submit: () => call(`${path}/plan`, { method: 'DELETE', query: { reason: reason.input.value.trim() } }).then((after) => ({ after, text: `The plan of ${name} is ${after.plan} now.` })),
  });
}
