import { ClientElement, dispatchUpgrade, reflectProperties } from '../elements.js';
import { UpgradeView } from './view.js';

export class UsageUpgrade extends ClientElement {
  static observedAttributes = [...super.observedAttributes, 'upgrade-url'];
  static earlyProperties = [...super.earlyProperties, 'upgradeUrl'];

  #view = null;
  // The client that is followed.
  #client = null;
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
    if (!this.isConnected || this.open) return;
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
    const refused = ({ detail }) => {
      if (!(detail.sent_at < this.#closedAt)) this.show(detail.endpoint);
    };
    const prompted = ({ detail }) => this.show(detail.endpoint);
    client.addEventListener('usage-exceeded', refused);
    client.addEventListener('upgrade-prompt', prompted);
    return [
      () => client.removeEventListener('usage-exceeded', refused),
      () => client.removeEventListener('upgrade-prompt', prompted),
      () => {
        this.#client = null;
        this.close(); // it speaks of another client
      },
    ];
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
    const refused = state?.refused && (this.#endpoint === null || state.refused.endpoint === this.#endpoint);
    const blocked = Boolean(refused) || Boolean(state && !client.canSend(this.#endpoint ?? undefined));
    this.#wasBlocked ||= blocked;
    if (blocked || !this.#wasBlocked) this.#view.show(state, this.#endpoint, blocked);
    else if (this.#inUse) this.#view.showAdmitted(state);
    else {
      this.close();
      this.#view.say(this.messages.upgradeAdmittedText);
    }
  }
}

reflectProperties(UsageUpgrade, { upgradeUrl: 'upgrade-url' });
