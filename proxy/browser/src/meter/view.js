import { describeMeter, headlineLimit, leadToUpgrade, limitText, poolLimit, reflect, showText, speak, unitName } from '../elements.js';
import { attention, attentionText } from './attention.js';
import { Breakdown } from './breakdown.js';
import { buildNodes } from './nodes.js';

/** A soft limit that is reached refuses nothing, so it is no reason for alarm. */
function shownStatus(state) {
  return state.status === 'blocked' && headlineLimit(state)?.soft ? 'warning' : state.status;
}

/**
 * The colour of the card. Red is for a headline that refuses calls, so that the big number does
 * not lie. What is refused beside it makes the card yellow, and the words below the bar red.
 */
function cardStatus(state, others) {
  const status = state.limit === null ? 'ok' : shownStatus(state);
  return status === 'ok' && others.length ? 'warning' : status;
}

/** Shows states in the nodes of an element. */
export class MeterView {
  #element;
  #ui;
  #locale;
  #breakdown;
  #say;
  #spokenStatus = null;
  #spokenOthers = '';
  // Whether the user has dismissed the prompt. The next refusal shows it again.
  #dismissed = false;

  /**
   * @param {import('./element.js').UsageMeter} element
   * @param {{ onUpgrade: (event: Event) => void, onDismiss: () => void, onSlotChange: () => void, say: (words: string) => void }} handlers
   *   say speaks a change of the status
   */
  constructor(element, handlers) {
    this.#element = element;
    this.#ui = buildNodes(element, handlers);
    this.#locale = element.locale;
    this.#breakdown = new Breakdown(this.#ui.endpoints);
    this.#say = handlers.say;
  }

  /** Another client is followed: its first status is not a change. */
  forgetStatus() {
    this.#spokenStatus = null;
    this.#dismissed = false;
  }

  /** @param {import('../../client.d.ts').UsageClient | null} client */
  show(client) {
    const ui = this.#ui;
    const m = this.#element.messages;
    const state = client?.current ?? null;
    const compact = this.#element.compact;
    const inUnits = state?.unit === 'units';
    const label = this.#element.label
      ?? (!compact ? m.label(state?.period.per) : inUnits ? m.compactUnits(unitName(state, 'units', m)) : m.compactLabel);
    ui.label.textContent = label;
    // In the compact form the label takes the place of the plan and the big number.
    if (compact !== (ui.label.parentNode === ui.figures)) (compact ? ui.figures : ui.head).prepend(ui.label);
    ui.head.hidden = compact;

    const failed = !state && client?.connection === 'offline';
    const limited = state !== null && state.limit !== null;
    const others = state ? attention(state, m) : [];
    ui.card.className = ['card', state ? cardStatus(state, others) : 'ok', state?.stale && 'stale',
      !state && 'empty', !state && !failed && 'loading'].filter(Boolean).join(' ');
    ui.card.setAttribute('aria-busy', String(!state && !failed));
    for (const name of ['plan', 'remaining', 'carried', 'status', 'attention', 'reset', 'running', 'pool', 'price', 'notice', 'prompt', 'details']) ui[name].hidden = true;
    ui.bar.hidden = state !== null && !limited;
    if (state) this.#showState(state, label, others);
    else this.#showNothing(failed ? client.problem : undefined);
  }

  /** @param {import('../../client.d.ts').ConnectionProblem | undefined} problem undefined: still loading */
  #showNothing(problem) {
    const ui = this.#ui;
    const m = this.#element.messages;
    ui.used.textContent = '–';
    ui.limit.textContent = '';
    ui.foot.hidden = true;
    this.#fillBar(0, 0);
    describeMeter(ui.bar, null);
    if (problem !== undefined) showText(ui.notice, problem === 'unauthorized' ? m.unauthorized : m.unavailable);
    this.#spokenStatus = null;
  }

  /**
   * @param {import('../../client.d.ts').UsageState} state
   * @param {string} label
   * @param {ReturnType<typeof attention>} others
   */
  #showState(state, label, others) {
    const ui = this.#ui;
    const m = this.#element.messages;
    const locale = this.#locale;
    const compact = this.#element.compact;
    const { limit } = state;
    const limited = limit !== null;
    showText(ui.plan, state.plan);
    const inUnits = state.unit === 'units';
    const unitOf = (n) => (inUnits ? unitName(state, 'units', m, n) : '');
    const [used, all, pending] = [state.used, limit ?? 0, state.pending].map((n) => locale.count(n));
    const count = limited ? m.used(used, all, unitOf(all)) : m.usedOnly(used, unitOf(used));
    const running = !state.pending ? '' : inUnits ? m.held(pending, compact ? '' : unitOf(pending)) : m.running(pending);
    if (compact) {
      // The label names the unit, unless the page has a label of its own.
      ui.used.textContent = limited ? m.compact(used, all, this.#element.label && unitOf(all)) : count;
      ui.limit.textContent = running && m.separator + running;
    } else {
      // The number that changes is the big one.
      const [before, ...after] = count.split(String(used));
      ui.used.textContent = after.length ? before + used : before;
      ui.limit.textContent = after.join(String(used));
      showText(ui.remaining, limited ? m.remaining(locale.count(state.remaining)) : m.unlimited);
      if (running) {
        ui.runningText.data = running;
        ui.running.hidden = false;
      }
    }
    const blocked = shownStatus(state) === 'blocked' ? m.blocked : m.softReached;
    const words = !limited ? '' : limit === 0 ? m.notIncluded : { warning: m.warning, blocked }[state.status] ?? '';
    if (words) {
      ui.statusText.data = words;
      ui.status.hidden = false;
    }
    // Once nothing is admitted, it does not matter what else is used up.
    const other = shownStatus(state) === 'blocked' && !state.allowed ? '' : attentionText(others, m, locale);
    if (other) {
      ui.attentionText.data = other;
      ui.attention.className = `attention status ${others[0].status}`;
      ui.attention.hidden = false;
    }
    const { end } = state.period;
    const reset = end ? locale.date(end) : '';
    const resets = end ? `${m.resets} ${reset}` : limited && m.neverRenews;
    if (!compact && resets) {
      ui.resetText.data = end ? m.resets : m.neverRenews;
      ui.time.textContent = reset;
      reflect(ui.time, 'datetime', end);
      ui.reset.hidden = false;
    }
    const carried = this.#carried(headlineLimit(state), unitOf);
    if (carried && !compact) showText(ui.carried, carried);
    ui.foot.hidden = compact && !words && !other;
    this.#fillBar(limit ? Math.min(1, state.used / limit) : Number(limited), limit ? state.pending / limit : 0);
    const sentence = [count, carried, running, words, other, state.stale && m.stale, resets];
    describeMeter(ui.bar, limit ? { now: Math.min(state.used, limit), max: limit, label, text: sentence.filter(Boolean).join(m.separator) } : null);
    if (state.stale) showText(ui.notice, compact ? m.stale : m.staleSince(locale.date(state.as_of, true)));

    this.#showPool(state);
    const prices = this.#prices(state);
    if (prices) showText(ui.price, prices);
    this.#showPrompt(state);
    this.#showBreakdown(state);
    this.#sayChange(state.status, words ? m.statusChanged(words, count) : count, other);
  }

  /** Speaks what has changed since the last state, unless this is the first. */
  #sayChange(status, words, other) {
    const changed = [
      status !== this.#spokenStatus && words,
      other !== this.#spokenOthers && other,
    ].filter(Boolean);
    if (this.#spokenStatus !== null && changed.length) this.#say(changed.join(this.#element.messages.separator));
    this.#spokenStatus = status;
    this.#spokenOthers = other;
  }

  /** @param {number} used share of the limit, 0 to 1 @param {number} pending likewise */
  #fillBar(used, pending) {
    const { bar, pending: part } = this.#ui;
    bar.style.setProperty('--_used', `${used * 100}%`);
    bar.style.setProperty('--_least', used > 0 ? '6px' : '0');
    bar.style.setProperty('--_pending', `${Math.min(1, pending) * 100}%`);
    part.classList.toggle('some', pending > 0);
  }

  /** What a limit contains of the window before; empty: nothing. */
  #carried(limit, unitOf) {
    if (!limit?.carried) return '';
    const n = this.#locale.count(limit.carried);
    return this.#element.messages.carried(n, unitOf(n), limit.per);
  }

  /** A second bar, for what all members of the organisation have used. */
  #showPool(state) {
    const { pool, 'pool-label': label, 'pool-count': count, 'pool-bar': bar, 'pool-carried': note } = this.#ui;
    const l = poolLimit(state);
    pool.hidden = this.#element.compact || !l;
    if (pool.hidden) return;
    const m = this.#element.messages;
    const unitOf = (n) => (l.unit === 'units' || state.unit === 'units' ? unitName(state, l.unit, m, n) : '');
    const [used, all] = [l.used, l.limit].map((n) => this.#locale.count(n));
    pool.className = `pool ${l.used < l.limit || l.soft ? 'ok' : 'blocked'}`;
    label.textContent = l.soft ? m.soft(m.pool(l.per)) : m.pool(l.per);
    count.textContent = m.of(used, all, unitOf(all));
    bar.style.setProperty('--_used', `${l.limit ? Math.min(1, l.used / l.limit) * 100 : 100}%`);
    bar.style.setProperty('--_least', l.used > 0 ? '6px' : '0');
    const carried = this.#carried(l, unitOf);
    showText(note, carried);
    note.hidden = !carried;
    const sentence = [m.used(used, all, unitOf(all)), carried];
    describeMeter(bar, l.limit ? { now: Math.min(l.used, l.limit), max: l.limit, label: label.textContent, text: sentence.filter(Boolean).join(m.separator) } : null);
  }

  /** What calls cost to the endpoints that the page asks about; empty: nothing to say. */
  #prices(state) {
    // A plan that limits requests only does not look at what they cost.
    if (state.limits.length && !state.limits.some((l) => l.unit === 'units')) return '';
    const m = this.#element.messages;
    return (this.#element.price ?? '').split(/\s+/).map((name) => [name, state.endpoints[name]?.cost])
      .filter(([, cost]) => cost)
      .map(([name, cost]) => {
        const [min, max] = [cost.min, cost.max].map((n) => this.#locale.count(n));
        return m.price(name, min, max, unitName(state, 'units', m, max));
      })
      .join(m.separator);
  }

  #showPrompt(state) {
    const { slot, prompt, 'prompt-title': title, 'prompt-text': text, 'upgrade-button': button, buttonText, dismiss } = this.#ui;
    const m = this.#element.messages;
    const { compact } = this.#element;
    // If calls are still allowed at the limit, the plan only observes: no upgrade is needed.
    const blocked = state.limit !== null && state.status === 'blocked' && !state.allowed;
    if (state.refused || !blocked) this.#dismissed = false;
    if (this.#dismissed || (!state.refused && !blocked)) return;
    prompt.hidden = false;
    title.textContent = state.refused ? m.refusedTitle : state.limit === 0 ? m.notIncluded : m.promptTitle;
    const reason = limitText(state, m, this.#locale);
    text.textContent = reason;
    buttonText.data = m.upgrade;
    // The compact form has no room for the reason.
    reflect(prompt, 'title', compact ? `${title.textContent}. ${reason}` : null);
    const leads = leadToUpgrade(this.#element, button, state);
    dismiss.setAttribute('aria-label', m.dismiss);
    // The compact form says "Limit reached" anyway. Without a button it has nothing to add.
    dismiss.hidden = compact && !state.refused;
    if (compact && !state.refused && !leads && !slot.assignedNodes().length) prompt.hidden = true;
  }

  /** Hides the prompt, until the next refusal. */
  dismiss() { this.#dismissed = true; }

  #showBreakdown(state) {
    const { details, summary } = this.#ui;
    const m = this.#element.messages;
    const rows = Breakdown.rows(state, m);
    details.hidden = this.#element.compact || !rows.length;
    if (details.hidden) return;
    summary.textContent = m.breakdown;
    this.#breakdown.show(rows, state.used, m, this.#locale);
  }

  /** Text for a screen reader: why a call was refused. */
  refusalText(state) {
    const m = this.#element.messages;
    return `${m.refusedTitle}. ${limitText(state, m, this.#locale)}`;
  }

  /** Has a screen reader speak. @param {string} words */
  speak(words) { speak(this.#ui.spoken, words); }
}
