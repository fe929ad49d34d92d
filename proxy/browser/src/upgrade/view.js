import { describeMeter, headlineLimit, leadToUpgrade, limitReason, nodeBuilder, sheetsOf, showText, speak, unitName } from '../elements.js';
import { STYLE } from './style.js';

/**
 * @typedef {{ onUpgrade: (event: Event) => void, onSlotChange: () => void, onUse: () => void, onRendered: () => void, close: () => void, onClose: () => void }} Handlers
 *   onRendered: the element has come into sight, or gone, as with display: none
 *   onUse: the user has pressed a key or clicked in the dialog, other than on the link
 */

/** @param {HTMLElement} element @param {Handlers} handlers */
function buildNodes(element, { onUpgrade, onSlotChange, close }) {
  const root = element.shadowRoot ?? element.attachShadow({ mode: 'open' });
  root.adoptedStyleSheets = sheetsOf(STYLE);
  const { ui, bare, part, text, spoken, upgradeSlot, cross } = nodeBuilder();
  const later = part('button', 'later', text('laterText'));
  later.type = 'button';
  later.classList.add('button', 'plain');
  later.addEventListener('click', close);
  const slot = upgradeSlot(onUpgrade);
  slot.addEventListener('slotchange', onSlotChange);
  const dialog = part('dialog', 'dialog',
    bare('div', 'content',
      bare('div', 'head', part('h2', 'prompt-title'), cross(close)),
      part('p', 'prompt-text'),
      (ui.usage = bare('div', 'usage',
        bare('div', 'row', part('span', 'label'), part('span', 'count')),
        part('div', 'bar', part('div', 'fill')),
        bare('div', 'row foot', part('span', 'reset'), part('span', 'plan')))),
      bare('div', 'buttons', later, slot)));
  dialog.tabIndex = -1;
  dialog.autofocus = true;
  for (const [attribute, node] of [['aria-labelledby', 'prompt-title'], ['aria-describedby', 'prompt-text']]) {
    ui[node].id = node;
    dialog.setAttribute(attribute, node);
  }
  root.append(dialog, spoken());
  return ui;
}

/** Shows in a dialog why calls are kept out. */
export class UpgradeView {
  #element;
  #ui;
  #sight;

  /** @param {import('./element.js').UsageUpgrade} element @param {Handlers} handlers */
  constructor(element, handlers) {
    this.#element = element;
    const ui = this.#ui = buildNodes(element, handlers);
    const { dialog } = ui;
    dialog.addEventListener('close', handlers.onClose);
    // The dialog has no size while it is closed, and the element never has one. This node always has.
    this.#sight = new ResizeObserver(handlers.onRendered);
    this.watch();
    const use = (event) => {
      if (!event.composedPath().includes(ui.slot)) handlers.onUse();
    };
    dialog.addEventListener('keydown', use);
    // A click beside the content closes, unless it began in it, as when text is selected.
    let beganBeside = false;
    dialog.addEventListener('pointerdown', (event) => {
      beganBeside = event.target === dialog;
      use(event);
    });
    dialog.addEventListener('click', (event) => {
      if (beganBeside && event.target === dialog) handlers.close();
    });
  }

  /** @returns {HTMLDialogElement} */
  get dialog() { return this.#ui.dialog; }

  /** Whether an open dialog is seen. One that is not would block the page all the same. */
  get rendered() {
    const { spoken } = this.#ui;
    return spoken.checkVisibility?.() ?? spoken.getClientRects().length > 0;
  }

  /** Calls onRendered when the element comes into sight, also if it was in sight until just now. */
  watch() {
    this.#sight.unobserve(this.#ui.spoken);
    this.#sight.observe(this.#ui.spoken);
  }

  open() {
    this.dialog.showModal();
    // Not on a button: a user who is typing may be about to press Enter.
    this.dialog.focus();
  }

  /**
   * @param {import('../../client.d.ts').UsageState | null} state null: nothing is known
   * @param {string | null} endpoint that the user wanted to call; null: any
   * @param {boolean} blocked whether calls to it are kept out
   */
  show(state, endpoint, blocked) {
    const { messages: m, locale } = this.#element;
    const called = endpoint ?? state?.refused?.endpoint ?? null;
    const reason = state && blocked ? limitReason(state, m, locale, called) : null;
    const notInPlan = reason?.kind === 'empty' || (blocked && state?.refused?.reason === 'not_in_plan');
    const title = !blocked ? m.upgradeTitle : notInPlan ? m.notIncluded
      : { short: m.notEnough, held: m.upgradeHeldTitle }[reason?.kind] ?? m.promptTitle;
    const text = !blocked ? m.upgradeText : notInPlan ? m.limitEmpty(called) : reason?.text ?? state?.refused?.detail ?? '';
    const limit = notInPlan ? null : reason?.limit ?? (state && headlineLimit(state)) ?? null;
    this.#showWords(title, text, blocked ? m.upgradeNotNow : m.upgradeClose, state);
    this.#showUsage(state, limit, blocked, reason?.renewal ?? '');
  }

  /** Says that calls are admitted again. @param {import('../../client.d.ts').UsageState} state */
  showAdmitted(state) {
    const { messages: m } = this.#element;
    if (!this.#ui.usage.hidden) this.say(m.upgradeAdmittedText);
    this.#showWords(m.upgradeAdmittedTitle, m.upgradeAdmittedText, m.upgradeClose, state);
    this.#ui.usage.hidden = true;
    this.#ui['upgrade-button'].hidden = true;
  }

  #showWords(title, text, later, state) {
    const { slot, 'prompt-title': titleNode, 'prompt-text': textNode, laterText, 'upgrade-button': link, buttonText, dismiss } = this.#ui;
    const { messages: m } = this.#element;
    titleNode.textContent = title;
    showText(textNode, text);
    buttonText.data = m.upgrade;
    dismiss.setAttribute('aria-label', m.upgradeClose);
    const leads = leadToUpgrade(this.#element, link, state) || slot.assignedNodes().length > 0;
    laterText.data = leads ? later : m.upgradeClose;
  }

  /** Shows how much of a limit is used. */
  #showUsage(state, limit, blocked, renewal) {
    const { usage, label, count, bar, reset, plan } = this.#ui;
    usage.hidden = !limit?.limit;
    if (usage.hidden) return;
    const { messages: m, locale } = this.#element;
    const [used, all] = [limit.used, limit.limit].map((n) => locale.count(n));
    const unit = unitName(state, limit.unit, m, all);
    usage.className = `usage ${limit.used >= limit.limit ? 'blocked' : blocked || limit.used >= limit.limit * 0.8 ? 'warning' : 'ok'}`;
    label.textContent = limit.shared ? m.pool(limit.per) : limit.endpoint ? m.perWindow(limit.endpoint, limit.per) : m.label(limit.per);
    count.textContent = m.of(used, all, unit);
    bar.style.setProperty('--_used', `${Math.min(1, limit.used / limit.limit) * 100}%`);
    describeMeter(bar, { label: label.textContent, now: Math.min(limit.used, limit.limit), max: limit.limit, text: m.used(used, all, unit) });
    reset.textContent = renewal || (limit.resets_at ? m.renews(locale.date(limit.resets_at)) : m.doesNotRenew);
    showText(plan, state.plan);
  }

  /** Has a screen reader speak. @param {string} words */
  say(words) { speak(this.#ui.spoken, words); }
}
