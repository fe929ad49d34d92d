// Changes of a user or an organisation. Each is a dialog that asks for a reason, and says in numbers what
// will happen before anything does.
import { call, newKey, Problem } from './api.js';
import { h, newID } from './dom.js';
import { amountName, dayText, number } from './format.js';
import { changedLimit, grantsOf, limitKey, limitText, resetLimit } from './limits.js';

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

/**
 * Asks in a dialog, and sends what was answered. effect returns what will happen, as texts or elements,
 * whenever a field changes; it may be a promise. submit sends the change. The promise has its result, or
 * null if the person has cancelled.
 */
export function ask({ title, about, fields, effect, label, submit }) {
  const id = newID();
  const what = h('div', { className: 'effect', ariaLive: 'polite' });
  const fault = h('div', { role: 'alert' });
  const send = h('button', { className: 'button first' });
  const cancel = h('button', { type: 'button', className: 'button', click: () => dialog.close() }, 'Cancel');
  const form = h('form', { noValidate: true, submit: onSubmit, input: onInput, change: onInput },
    fields.map((f) => f.element), what, fault, h('div', { className: 'buttons' }, send, cancel));
  const dialog = h('dialog', { 'aria-labelledby': id }, h('h2', { id }, title), about ? h('p', { className: 'dim' }, about) : null, form);

  let turn = 0;
  async function showEffect() {
    const mine = ++turn;
    send.textContent = label();
    let shown;
    try {
      shown = await effect();
    } catch (error) {
      shown = [`What will happen is not known: ${error.message}`];
    }
    if (mine === turn) what.replaceChildren(h('h3', null, 'What will happen'), h('ul', null, shown.map((text) => h('li', null, text))));
  }

  function onInput({ target }) {
    const changed = fields.find((f) => f.input === target);
    if (target.ariaInvalid) changed?.isGood();
    if (!changed?.changesNothing) showEffect();
  }

  return new Promise((done) => {
    let result = null;
    form.sendNow = async () => {
      result = await submit();
      dialog.close();
    };
    dialog.addEventListener('close', () => {
      dialog.remove();
      done(result);
    });
    document.body.append(dialog);
    showEffect();
    dialog.showModal();
  });

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
      await form.sendNow();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (error.status === 401) dialog.close();
      fault.replaceChildren(h('p', { className: 'banner bad' }, error.message));
    } finally {
      send.ariaBusy = null;
    }
  }
}

const option = (value, text) => h('option', { value }, text);
const reads = (user, session) => (l) => `${l.name}: ${limitText(l, session.unit_name)}${l.shared && user.user ? ' (shared)' : ''}`;

/** The limits that can be raised here: a member's own, or the shared ones of an organisation. */
export const grantable = (user) => user.limits.filter((l) => !l.soft && Boolean(l.shared) === !user.user);

export async function grant({ user, name, path, session }) {
  const limits = grantable(user);
  const which = field('Limit', h('select', null, limits.map((l) => option(limitKey(l), reads(user, session)(l)))));
  const amount = field('How many more', h('input', { type: 'number', min: 1, step: 1, inputMode: 'numeric', value: 50 }), {
    check: (text) => (/^\d{1,15}$/.test(text.trim()) && Number(text) > 0 ? '' : 'Enter a whole number of at least 1.'),
  });
  const reason = reasonField();
  const chosen = () => limits.find((l) => limitKey(l) === which.input.value);
  const more = () => Number(amount.input.value) || 0;
  const unit = () => amountName(chosen().unit, session.unit_name);
  // Sent again after an answer was lost, the same grant has the same key, so it is made once.
  const sent = {};
  return ask({
    title: `Grant more to ${name}`,
    fields: [which, amount, reason],
    label: () => `Grant ${number(more())} ${unit()}`,
    effect: () => {
      const l = chosen();
      return [changedLimit(l, l.limit + more()), l.resets_at ? `It holds until the limit renews, ${dayText(l.resets_at)}.` : 'It holds for ever: this limit does not renew.',
        user.user ? 'The next request has it already, on every gateway.' : 'The members’ next requests have it already, on every gateway.'];
    },
    submit: () => {
      const l = chosen();
      const body = { [l.unit === 'units' ? 'units' : 'requests']: more(), per: l.per, reason: reason.input.value.trim() };
      if (l.endpoint) body.endpoint = l.endpoint;
      const text = JSON.stringify(body);
      if (sent.text !== text) Object.assign(sent, { text, key: newKey() });
      return call(`${path}/grants`, { method: 'POST', body, key: sent.key }).then((after) => ({ after, text: `Granted ${number(more())} ${unit()} to ${name}.` }));
    },
  });
}

export async function reset({ user, name, path }) {
  const reason = reasonField();
  const own = user.limits.filter((l) => Boolean(l.shared) === !user.user);
  return ask({
    title: `Reset what ${name} has used`,
    fields: [reason],
    label: () => 'Reset to 0',
    effect: () => [...(own.length ? own.map(resetLimit) : [`${number(user.used)} used in this window becomes 0.`]),
      'All running windows begin again at 0, on every gateway. It cannot be undone.', 'Running requests still count when they succeed. What was granted stays.'],
    submit: () => call(`${path}/reset`, { method: 'POST', body: { reason: reason.input.value.trim() } }).then((after) => ({ after, text: `Reset what ${name} has used.` })),
  });
}

/** What a user will have under a plan: with what is used now, which stays. */
async function planEffect({ user, path, session }, plan, plans) {
  const lines = [`The plan becomes ${plan}; now it is ${user.plan}. What is used stays, and so do grants to limits that both plans have.`];
  if (plan === user.plan) return [`The plan stays ${plan}.`];
  // Without an override, the gateway says itself what the user would have.
  if (!user.override) {
    const then = await call(path, { query: { plan } });
    if (then.plan === plan) return [...lines, ...compared(then.limits, user)];
  }
  const found = (await plans()).find((p) => p.name === plan);
  if (!found) return lines;
  const used = new Map(user.limits.map((l) => [limitKey(l), l]));
  const limits = found.limits.filter((l) => Boolean(l.shared) === !user.user || user.org);
  if (!limits.length) return [...lines, 'It has no limits: requests are counted, and none is refused.'];
  return [...lines, ...limits.map((l) => {
    const now = used.get(limitKey(l));
    return now ? changedLimit(now, l.amount + extra(now, user)) : `${l.name}: ${limitText(l, session.unit_name)}, which the plan of now does not have.`;
  })];
}

/** What a limit contains beyond the plan: it stays. */
const extra = (l, user) => (grantsOf(user).get(limitKey(l)) ?? 0) + (l.carried ?? 0);

function compared(limits, user) {
  if (!limits.length) return ['It has no limits: requests are counted, and none is refused.'];
  const now = new Map(user.limits.map((l) => [limitKey(l), l]));
  return limits.map((l) => {
    const before = now.get(limitKey(l));
    return before ? changedLimit({ ...before, used: l.used }, l.limit)
      : `${l.name}: ${number(l.used)} of ${number(l.limit)} used, so ${number(Math.max(0, l.limit - l.used))} are left. The plan of now does not have this limit.`;
  });
}

export async function setPlan({ user, name, path, session, plans }) {
  const plan = field('Plan', h('select', null, (session.plans ?? []).map((p) => option(p, p))));
  plan.input.value = user.override?.plan ?? user.plan;
  const until = field('Until', h('input', { type: 'datetime-local' }), {
    hint: 'In your local time. Leave it empty for no end.',
    check: (text) => (text && !(new Date(text) > new Date()) ? 'It must be in the future.' : ''),
  });
  const reason = reasonField();
  return ask({
    title: `Change the plan of ${name}`,
    about: user.user ? 'The plan applies whatever the user’s token says.' : 'The plan applies to all members for whom none was chosen, whatever their tokens say.',
    fields: [plan, until, reason],
    label: () => `Change the plan to ${plan.input.value}`,
    effect: async () => [...await planEffect({ user, path, session }, plan.input.value, plans),
      until.input.value ? `It ends ${dayText(until.input.value)}. Then the token’s plan applies again.` : 'It holds until somebody clears it.'],
    submit: () => {
      const body = { plan: plan.input.value, reason: reason.input.value.trim() };
      if (until.input.value) body.until = new Date(until.input.value).toISOString();
      return call(`${path}/plan`, { method: 'PUT', body }).then((after) => ({ after, text: `The plan of ${name} is ${body.plan} now.` }));
    },
  });
}

export async function clearPlan({ user, name, path, session, plans }) {
  const reason = reasonField();
  return ask({
    title: `Clear the plan of ${name}`,
    fields: [reason],
    label: () => 'Clear the plan',
    effect: async () => ['The plan that was chosen here ends. From the next request on, the token says the plan again.',
      ...(user.claimed ? await planEffect({ user, path, session }, user.claimed, plans) : ['Which plan the token names is not known: this user has sent no request yet. Without one it is the default plan.'])],
    submit: () => call(`${path}/plan`, { method: 'DELETE', query: { reason: reason.input.value.trim() } }).then((after) => ({ after, text: `The plan of ${name} is ${after.plan} now.` })),
  });
}
