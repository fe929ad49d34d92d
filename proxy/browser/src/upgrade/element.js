import { ClientElement, dispatchUpgrade, reflectProperties } from '../elements.js';
import { UpgradeView } from './view.js';

/**
 * The dialogs of one client: only one of them is open.
 * @typedef {{ dialogs: Set<UsageUpgrade>, waiting: { endpoint: string | null } | null }} Group
 *   waiting: what a dialog is to say once one of them is rendered
 */
const groupOf = new WeakMap();

/** @returns {Group} */
const newGroup = () => ({ dialogs: new Set(), waiting: null });

export class UsageUpgrade extends ClientElement {
  static observedAttributes = [...super.observedAttributes, 'upgrade-url'];
  static earlyProperties = [...super.earlyProperties, 'upgradeUrl'];

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

  /** Whether the dialog is shown. */
  get open() { return this.#view?.dialog.open ?? false; }

  /**
   * Opens the dialog.
   * @param {string | null} [endpoint] that the user wanted to call; default: any
   */
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
    // What it says has to be there when a screen reader begins to read.
    this.#show(this.#client);
    this.#view.open();
  }

  close() {
    if (!this.open) return;
    this.#closedAt = Date.now(); // the event comes later
    this.#view.dialog.close();
  }

  build() {
    this.#view = new UpgradeView(this, {
      onUpgrade: (event) => {
        if (!dispatchUpgrade(this, event, this.#client?.current ?? null)) this.close();
      },
      onSlotChange: () => this.render(this.#client),
      onRendered: () => this.#followSight(),
      onUse: () => { this.#inUse = true; },
      close: () => this.close(),
      onClose: () => {
        this.#closedAt ||= Date.now(); // the user may have closed it, and this event comes late
        this.dispatchEvent(new Event('close'));
      },
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
    client.addEventListener('usage-exceeded', refused);
    client.addEventListener('upgrade-prompt', prompted);
    return [
      () => client.removeEventListener('usage-exceeded', refused),
      () => client.removeEventListener('upgrade-prompt', prompted),
      () => {
        this.#client = null;
        this.close(); // it speaks of another client
        group.dialogs.delete(this);
        if (!group.dialogs.size) group.waiting = null;
        this.#group = newGroup();
      },
    ];
  }

  /** Whether this is the dialog that opens, of those of its client. */
  get #isFirst() {
    const dialogs = [...this.#group.dialogs];
    return (dialogs.find((dialog) => dialog.#view?.rendered) ?? dialogs[0]) === this;
  }

  /** Goes out of sight with what it is in, and comes back if calls are still kept out. */
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
    if (this.#wasBlocked && !state) this.close(); // the user has changed
    else this.#show(client);
  }

  /** Shows why calls are kept out, or that they no longer are. */
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
}

/**
 * Whether calls are kept out.
 * @param {import('../../client.d.ts').UsageClient | null} client
 * @param {string | null} endpoint null: any
 */
function keepsOut(client, endpoint) {
  const state = client?.current;
  if (!state) return false;
  const refused = state.refused && (endpoint === null || state.refused.endpoint === endpoint);
  return Boolean(refused) || !client.canSend(endpoint ?? undefined);
}

reflectProperties(UsageUpgrade, { upgradeUrl: 'upgrade-url' });
