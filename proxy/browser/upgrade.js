// Code generated from src by go generate ./proxy/browser; DO NOT EDIT.

// <usage-upgrade> is a dialog that opens when a call is refused because a limit is reached.
//
//   <script type="module" src="https://gateway.example.com/usage/upgrade.js"></script>
//   <usage-upgrade></usage-upgrade>
//   <script type="module">
//     document.querySelector('usage-upgrade').client = client;   // of client.js
//   </script>
//
// It opens on the client's events usage-exceeded and upgrade-prompt, and by show(endpoint).
// Give it the client that the page sends its calls with. It says which limit keeps calls
// out and when that resets, and leads to the upgrade URL, if there is one. Many calls that
// are refused at once open it once. After the user has closed it, it opens again when a call
// is refused that was sent later.
//
// It closes by itself when calls are admitted again, as after an upgrade in another tab. If the
// user has pressed a key in it, or clicked on anything but the link, it stays and says that
// calls are admitted again.
//
// Attributes: base-url, token, theme (light or dark; default: the system's), upgrade-url
// (takes precedence over the gateway's). Properties: client, getToken, messages (of
// messages.js), open. Methods: show(endpoint), close(). Events: close; upgrade, when the user
// follows the link: after preventDefault it does not open, and the dialog closes to make
// room for the page's own. Slot: upgrade, replaces the link. Parts: dialog, plan,
// prompt-title, prompt-text, label, count, bar, fill, reset, upgrade-button, later, dismiss.
// Colours: the --usage-meter-* properties of meter.js.


// src/upgrade/element.js
import { ClientElement, dispatchUpgrade, reflectProperties } from "./elements.js";

// src/upgrade/view.js
import { describeMeter, headlineLimit, leadToUpgrade, limitReason, nodeBuilder, sheetsOf, showText, speak, unitName } from "./elements.js";

// src/upgrade/style.js
var STYLE = `
:host { display: contents; }
dialog {
  visibility: visible; /* whatever it is in: an open dialog that is not seen blocks the page */
  margin: auto; width: min(420px, calc(100% - 32px)); max-width: none; max-height: calc(100% - 32px);
  padding: 0; overflow: auto; overscroll-behavior: contain;
  background: var(--_background); color: inherit;
  border: 1px solid var(--_border); border-radius: var(--usage-meter-dialog-radius, 16px);
  box-shadow: 0 24px 56px -12px rgb(16 24 40 / 28%);
  font: 400 14px/1.5 var(--usage-meter-font, system-ui, -apple-system, "Segoe UI", Roboto, sans-serif);
  animation: rise 180ms cubic-bezier(0.2, 0.7, 0.2, 1);
}
dialog:focus { outline: none; }
dialog::backdrop { background: rgb(12 15 20 / 48%); animation: fade 180ms ease-out; }
@keyframes rise { from { opacity: 0; transform: translateY(8px) scale(0.985); } }
@keyframes fade { from { opacity: 0; } }

.content { padding: var(--usage-meter-dialog-padding, 22px 24px 24px); }
.head { display: flex; align-items: flex-start; justify-content: space-between; gap: 12px; }
h2 { font: inherit; font-size: 18px; line-height: 26px; font-weight: 600; text-wrap: balance; }
.dismiss { margin-block-start: 1px; margin-inline-end: -4px; }
.prompt-text { margin-top: 6px; color: var(--_muted); overflow-wrap: anywhere; text-wrap: pretty; }

.usage {
  --_status: var(--_ok);
  margin-top: 18px; padding: 14px 16px; border-radius: 10px; background: var(--_prompt);
}
.usage.warning { --_status: var(--_warning); }
.usage.blocked { --_status: var(--_blocked); }
.row { display: flex; flex-wrap: wrap; align-items: baseline; justify-content: space-between; gap: 2px 12px; }
.label { font-weight: 500; overflow-wrap: anywhere; }
.count, .foot { color: var(--_muted); font-size: 13px; }
.bar {
  display: flex; overflow: hidden; margin-block: 10px;
  height: var(--usage-meter-bar-height, 8px); border-radius: 99px; background: var(--_track);
}
.fill { flex: none; width: var(--_used, 0%); border-radius: inherit; background-color: var(--_status); }
.plan { text-transform: capitalize; }

.buttons { display: flex; flex-wrap: wrap; justify-content: flex-end; gap: 8px; margin-top: 20px; }
.buttons .button { padding: 8px 16px; border: 1px solid transparent; border-radius: 8px; text-align: center; cursor: pointer; }
.buttons .plain { background: none; border-color: var(--_border); color: var(--_text); }
.buttons .plain:hover { opacity: 1; background: var(--_prompt); }
@media (max-width: 380px) {
  .buttons { flex-direction: column-reverse; }
}
@media (forced-colors: active) {
  dialog { border-color: CanvasText; }
  .bar { border: 1px solid CanvasText; background: Canvas; }
  .fill { forced-color-adjust: none; background-color: CanvasText; }
  .blocked .fill { background-color: Mark; }
  .usage { border: 1px solid CanvasText; }
  .buttons .button { border: 1px solid ButtonText; }
  .buttons a.button { border-color: LinkText; }
}
`;

// src/upgrade/view.js
function buildNodes(element, { onUpgrade, onSlotChange, close }) {
  const root = element.shadowRoot ?? element.attachShadow({ mode: "open" });
  root.adoptedStyleSheets = sheetsOf(STYLE);
  const { ui, bare, part, text, spoken, upgradeSlot, cross } = nodeBuilder();
  const later = part("button", "later", text("laterText"));
  later.type = "button";
  later.classList.add("button", "plain");
  later.addEventListener("click", close);
  const slot = upgradeSlot(onUpgrade);
  slot.addEventListener("slotchange", onSlotChange);
  const dialog = part(
    "dialog",
    "dialog",
    bare(
      "div",
      "content",
      bare("div", "head", part("h2", "prompt-title"), cross(close)),
      part("p", "prompt-text"),
      ui.usage = bare(
        "div",
        "usage",
        bare("div", "row", part("span", "label"), part("span", "count")),
        part("div", "bar", part("div", "fill")),
        bare("div", "row foot", part("span", "reset"), part("span", "plan"))
      ),
      bare("div", "buttons", later, slot)
    )
  );
  dialog.tabIndex = -1;
  dialog.autofocus = true;
  for (const [attribute, node] of [["aria-labelledby", "prompt-title"], ["aria-describedby", "prompt-text"]]) {
    ui[node].id = node;
    dialog.setAttribute(attribute, node);
  }
  root.append(dialog, spoken());
  return ui;
}
var UpgradeView = class {
  #element;
  #ui;
  #sight;
  constructor(element, handlers) {
    this.#element = element;
    const ui = this.#ui = buildNodes(element, handlers);
    const { dialog } = ui;
    dialog.addEventListener("close", handlers.onClose);
    this.#sight = new ResizeObserver(handlers.onRendered);
    this.watch();
    const use = (event) => {
      if (!event.composedPath().includes(ui.slot)) handlers.onUse();
    };
    dialog.addEventListener("keydown", use);
    let beganBeside = false;
    dialog.addEventListener("pointerdown", (event) => {
      beganBeside = event.target === dialog;
      use(event);
    });
    dialog.addEventListener("click", (event) => {
      if (beganBeside && event.target === dialog) handlers.close();
    });
  }
  get dialog() {
    return this.#ui.dialog;
  }
  get rendered() {
    const { spoken } = this.#ui;
    return spoken.checkVisibility?.() ?? spoken.getClientRects().length > 0;
  }
  watch() {
    this.#sight.unobserve(this.#ui.spoken);
    this.#sight.observe(this.#ui.spoken);
  }
  open() {
    this.dialog.showModal();
    this.dialog.focus();
  }
  show(state, endpoint, blocked) {
    const { messages: m, locale } = this.#element;
    const called = endpoint ?? state?.refused?.endpoint ?? null;
    const reason = state && blocked ? limitReason(state, m, locale, called) : null;
    const notInPlan = reason?.kind === "empty" || blocked && state?.refused?.reason === "not_in_plan";
    const title = !blocked ? m.upgradeTitle : notInPlan ? m.notIncluded : { short: m.notEnough, held: m.upgradeHeldTitle }[reason?.kind] ?? m.promptTitle;
    const text = !blocked ? m.upgradeText : notInPlan ? m.limitEmpty(called) : reason?.text ?? state?.refused?.detail ?? "";
    const limit = notInPlan ? null : reason?.limit ?? (state && headlineLimit(state)) ?? null;
    this.#showWords(title, text, blocked ? m.upgradeNotNow : m.upgradeClose, state);
    this.#showUsage(state, limit, blocked, reason?.renewal ?? "");
  }
  showAdmitted(state) {
    const { messages: m } = this.#element;
    if (!this.#ui.usage.hidden) this.say(m.upgradeAdmittedText);
    this.#showWords(m.upgradeAdmittedTitle, m.upgradeAdmittedText, m.upgradeClose, state);
    this.#ui.usage.hidden = true;
    this.#ui["upgrade-button"].hidden = true;
  }
  #showWords(title, text, later, state) {
    const { slot, "prompt-title": titleNode, "prompt-text": textNode, laterText, "upgrade-button": link, buttonText, dismiss } = this.#ui;
    const { messages: m } = this.#element;
    titleNode.textContent = title;
    showText(textNode, text);
    buttonText.data = m.upgrade;
    dismiss.setAttribute("aria-label", m.upgradeClose);
    const leads = leadToUpgrade(this.#element, link, state) || slot.assignedNodes().length > 0;
    laterText.data = leads ? later : m.upgradeClose;
  }
  #showUsage(state, limit, blocked, renewal) {
    const { usage, label, count, bar, reset, plan } = this.#ui;
    usage.hidden = !limit?.limit;
    if (usage.hidden) return;
    const { messages: m, locale } = this.#element;
    const [used, all] = [limit.used, limit.limit].map((n) => locale.count(n));
    const unit = unitName(state, limit.unit, m, all);
    usage.className = `usage ${limit.used >= limit.limit ? "blocked" : blocked || limit.used >= limit.limit * 0.8 ? "warning" : "ok"}`;
    label.textContent = limit.shared ? m.pool(limit.per) : limit.endpoint ? m.perWindow(limit.endpoint, limit.per) : m.label(limit.per);
    count.textContent = m.of(used, all, unit);
    bar.style.setProperty("--_used", `${Math.min(1, limit.used / limit.limit) * 100}%`);
    describeMeter(bar, { label: label.textContent, now: Math.min(limit.used, limit.limit), max: limit.limit, text: m.used(used, all, unit) });
    reset.textContent = renewal || (limit.resets_at ? m.renews(locale.date(limit.resets_at)) : m.doesNotRenew);
    showText(plan, state.plan);
  }
  say(words) {
    speak(this.#ui.spoken, words);
  }
};

// src/upgrade/element.js
var groupOf = /* @__PURE__ */ new WeakMap();
var newGroup = () => ({ dialogs: /* @__PURE__ */ new Set(), waiting: null });
var UsageUpgrade = class extends ClientElement {
  static observedAttributes = [...super.observedAttributes, "upgrade-url"];
  static earlyProperties = [...super.earlyProperties, "upgradeUrl"];
  #view = null;
  // The client that is followed.
  #client = null;
  #group = newGroup();
  // What the user wanted to call; null: anything.
  #endpoint = null;
  // Whether calls were kept out since the dialog opened.
  #wasBlocked = false;
  // Whether the user has done something in the dialog since it opened.
  #inUse = false;
  // Calls that were sent before do not open the dialog again.
  #closedAt = 0;
  get open() {
    return this.#view?.dialog.open ?? false;
  }
  show(endpoint = null) {
    if (!this.isConnected || [this, ...this.#group.dialogs].some((dialog) => dialog.open)) return;
    if (!this.#view.rendered) {
      this.#group.waiting = { endpoint };
      for (const dialog of [this, ...this.#group.dialogs]) dialog.#view?.watch();
      return;
    }
    this.#group.waiting = null;
    this.#endpoint = endpoint;
    this.#wasBlocked = false;
    this.#inUse = false;
    this.#closedAt = 0;
    this.#show(this.#client);
    this.#view.open();
  }
  close() {
    if (!this.open) return;
    this.#closedAt = Date.now();
    this.#view.dialog.close();
  }
  build() {
    this.#view = new UpgradeView(this, {
      onUpgrade: (event) => {
        if (!dispatchUpgrade(this, event, this.#client?.current ?? null)) this.close();
      },
      onSlotChange: () => this.render(this.#client),
      onRendered: () => this.#followSight(),
      onUse: () => {
        this.#inUse = true;
      },
      close: () => this.close(),
      onClose: () => {
        this.#closedAt ||= Date.now();
        this.dispatchEvent(new Event("close"));
      }
    });
  }
  attach(client) {
    this.#client = client;
    this.#closedAt = 0;
    const group = this.#group = groupOf.get(client) ?? newGroup();
    groupOf.set(client, group);
    group.dialogs.add(this);
    const refused = ({ detail }) => {
      if (this.#isFirst && !(detail.sent_at < this.#closedAt)) this.show(detail.endpoint);
    };
    const prompted = ({ detail }) => {
      if (this.#isFirst) this.show(detail.endpoint);
    };
    client.addEventListener("usage-exceeded", refused);
    client.addEventListener("upgrade-prompt", prompted);
    return [
      () => client.removeEventListener("usage-exceeded", refused),
      () => client.removeEventListener("upgrade-prompt", prompted),
      () => {
        this.#client = null;
        this.close();
        group.dialogs.delete(this);
        if (!group.dialogs.size) group.waiting = null;
        this.#group = newGroup();
      }
    ];
  }
  get #isFirst() {
    const dialogs = [...this.#group.dialogs];
    return (dialogs.find((dialog) => dialog.#view?.rendered) ?? dialogs[0]) === this;
  }
  #followSight() {
    const group = this.#group;
    if (!this.#view.rendered) {
      if (!this.open) return;
      this.close();
      group.waiting = { endpoint: this.#endpoint };
    } else if (group.waiting && this.#isFirst) {
      const { endpoint } = group.waiting;
      group.waiting = null;
      if (keepsOut(this.#client, endpoint)) this.show(endpoint);
    }
  }
  disconnectedCallback() {
    super.disconnectedCallback();
    this.close();
  }
  render(client) {
    if (!this.open) return;
    const state = client?.current ?? null;
    if (this.#wasBlocked && !state) this.close();
    else this.#show(client);
  }
  #show(client) {
    const state = client?.current ?? null;
    const blocked = keepsOut(client, this.#endpoint);
    this.#wasBlocked ||= blocked;
    if (blocked || !this.#wasBlocked) this.#view.show(state, this.#endpoint, blocked);
    else if (this.#inUse) this.#view.showAdmitted(state);
    else {
      this.close();
      this.#view.say(this.messages.upgradeAdmittedText);
    }
  }
};
function keepsOut(client, endpoint) {
  const state = client?.current;
  if (!state) return false;
  const refused = state.refused && (endpoint === null || state.refused.endpoint === endpoint);
  return Boolean(refused) || !client.canSend(endpoint ?? void 0);
}
reflectProperties(UsageUpgrade, { upgradeUrl: "upgrade-url" });

// src/upgrade.js
if (globalThis.customElements && !customElements.get("usage-upgrade")) customElements.define("usage-upgrade", UsageUpgrade);
export {
  UsageUpgrade
};
