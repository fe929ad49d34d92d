import { ClientElement, dispatchUpgrade, reflectProperties } from '../elements.js';
import { MeterView } from './view.js';

/** The meters of each client: only the first of them speaks. */
const metersOf = new WeakMap();

export class UsageMeter extends ClientElement {
  static observedAttributes = [...super.observedAttributes, 'label', 'compact', 'price', 'upgrade-url'];
  static earlyProperties = [...super.earlyProperties, 'label', 'compact', 'price', 'upgradeUrl'];

  #view = null;
  // The client that is followed.
  #client = null;

  get compact() { return this.hasAttribute('compact'); }
  set compact(value) { this.toggleAttribute('compact', Boolean(value)); }

  build() {
    this.#view = new MeterView(this, {
      onUpgrade: (event) => dispatchUpgrade(this, event, this.#client?.current ?? null),
      onDismiss: () => this.#dismiss(),
      onSlotChange: () => this.render(this.#client),
      say: (words) => this.#say(words),
    });
  }

  attach(client) {
    this.#client = client;
    this.#view.forgetStatus();
    const meters = metersOf.get(client) ?? new Set();
    metersOf.set(client, meters.add(this));
    const sayRefused = ({ detail }) => this.#say(this.#view.refusalText(detail));
    client.addEventListener('usage-exceeded', sayRefused);
    return [
      () => client.removeEventListener('usage-exceeded', sayRefused),
      () => meters.delete(this),
    ];
  }

  render(client) { this.#view.show(client); }

  #dismiss() {
    this.#view.dismiss();
    this.#client.dismiss();
    this.render(this.#client);
  }

  #say(words) {
    const [first] = metersOf.get(this.#client) ?? [];
    if (first === this) this.#view.speak(words);
  }
}

// price: the endpoints whose price is shown, separated by spaces.
reflectProperties(UsageMeter, { label: 'label', price: 'price', upgradeUrl: 'upgrade-url' });
