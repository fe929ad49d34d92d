import { headlineLimit, poolLimit } from '../elements.js';

// Windows so short that their last fifth is not worth a warning: it is gone again before one reads it.
const SHORT = ['minute', 'hour'];

/**
 * What deserves the user's attention beside the headline: endpoints, and limits without an
 * endpoint, that refuse calls or are almost used up. A plan without an endpoint, a soft limit
 * and a plan that only observes refuse nobody who was promised something.
 * @param {import('../../client.d.ts').UsageState} state
 * @param {typeof import('../messages/en.js').en} messages
 * @returns {{ status: 'warning' | 'blocked', text: string }[]} the worst first
 */
export function attention(state, messages) {
  const headline = headlineLimit(state);
  const pool = poolLimit(state);
  const byName = new Map();
  const note = (name, status, text) => {
    if (byName.get(name)?.status !== 'blocked') byName.set(name, { status, text });
  };
  for (const l of state.limits) {
    if (l === headline || l.soft || !l.limit) continue;
    // If calls are still allowed, the plan only observes.
    const observed = (l.endpoint ? state.endpoints[l.endpoint]?.allowed : state.allowed) === true;
    const reached = l.used >= l.limit && !observed;
    if (!reached && (l.used < l.limit * 0.8 || SHORT.includes(l.per))) continue;
    const name = l.endpoint ?? (l === pool ? messages.pool(l.per) : messages.perWindow(undefined, l.per));
    if (reached) note(name, 'blocked', messages.limitOf(name, messages.blocked));
    else note(name, 'warning', messages.limitOf(name, l.used < l.limit ? messages.warning : messages.softReached));
  }
  // What is left of the headline may be too little for an expensive endpoint.
  if (state.allowed) {
    for (const [name, e] of Object.entries(state.endpoints)) {
      if (e.allowed === false && e.limit !== 0) note(name, 'blocked', messages.limitOf(name, messages.notEnough));
    }
  }
  const all = [...byName.values()];
  return [...all.filter((a) => a.status === 'blocked'), ...all.filter((a) => a.status === 'warning')];
}

/**
 * The words for a list of what deserves attention: the worst, and how many there are more.
 * @param {ReturnType<typeof attention>} list
 * @param {typeof import('../messages/en.js').en} messages
 * @param {import('../elements/locale.js').Locale} locale
 */
export function attentionText([worst, ...more], messages, locale) {
  return !worst ? '' : more.length ? messages.andMore(worst.text, locale.count(more.length)) : worst.text;
}
