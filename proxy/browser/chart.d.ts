// Types of chart.js, which defines the element <usage-chart>.

import type { UsageClient, UsageClientOptions } from './client.js';
import type { Messages } from './messages.js';

/** Attributes: base-url, token, days, label, theme (light or dark). */
export class UsageChart extends HTMLElement {
  /** The client that is followed. Set it to share one; null: the element makes its own. */
  get client(): UsageClient | null;
  set client(client: UsageClient | null | undefined);
  /** As in the options of createUsageClient, for an element that makes its own client. */
  get getToken(): UsageClientOptions['getToken'] | null;
  set getToken(getToken: UsageClientOptions['getToken'] | null);
  /** Texts that replace those of the page's language, all or some. */
  get messages(): Messages;
  set messages(messages: Partial<Messages> | null | undefined);
  baseUrl: string | null;
  token: string | null;
  /** null: as the system. */
  theme: 'light' | 'dark' | null;
  /** How many days are shown, 1 to 400. Default: 30, or as many as the gateway keeps if that is fewer. */
  days: number;
  label: string | null;
}

declare global {
  interface HTMLElementTagNameMap {
    'usage-chart': UsageChart;
  }
}
