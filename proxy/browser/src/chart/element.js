import { ClientElement, reflectProperties } from '../elements.js';
import { HistoryFeed, TIMING } from './feed.js';
import { ChartView } from './view.js';

const DEFAULT_DAYS = 30;
const MOST_DAYS = 400;

/** Shows what was used on each of the last days. */
export class UsageChart extends ClientElement {
  static observedAttributes = [...super.observedAttributes, 'days', 'label'];
  static earlyProperties = [...super.earlyProperties, 'days', 'label'];
  /** For tests. */
  static timing = TIMING;

  /** @type {ChartView} */ #view;
  /** @type {HistoryFeed | null} */ #feed = null;

  /** How many days are shown: what the attribute says, if that is a number from 1 to 400, or else 30. */
  get days() { return this.#wantedDays ?? DEFAULT_DAYS; }
  set days(days) { this.setAttribute('days', String(days)); }

  /** @returns {number | undefined} undefined: the gateway decides, which may keep fewer than 30 */
  get #wantedDays() {
    const days = Number(this.getAttribute('days'));
    return Number.isInteger(days) && days >= 1 && days <= MOST_DAYS ? days : undefined;
  }

  build() { this.#view = new ChartView(this); }

  attach(client) {
    const feed = this.#feed = new HistoryFeed(client, () => this.#wantedDays, () => this.render(client));
    return [() => {
      feed.close();
      this.#feed = null;
    }];
  }

  attributeChangedCallback(name, before, after) {
    if (name === 'days' && before !== after) this.#feed?.readAgain();
    super.attributeChangedCallback(name, before, after);
  }

  render(client) {
    const state = client?.current ?? null;
    this.#feed?.follow(state);
    const { history = null, problem = null } = this.#feed ?? {};
    const unreachable = !state && client?.connection === 'offline';
    this.#view.show(state, history, problem ?? (unreachable ? client.problem ?? 'unreachable' : null));
  }
}

reflectProperties(UsageChart, { label: 'label' });
