// Types of upgrade.js, which defines the element <usage-upgrade>.

import type { UsageClient, UsageClientOptions } from './client.js';
import type { Messages } from './messages.js';
import type { UpgradeEvent } from './meter.js';

export interface UsageUpgradeEventMap {
  /** The user follows the link. After preventDefault() it does not open, and the dialog closes. */
  upgrade: UpgradeEvent;
  /** The dialog has closed. */
  close: Event;
}

/** Attributes: base-url, token, upgrade-url, theme (light or dark). */
export class UsageUpgrade extends HTMLElement {
  /** The client that is followed: that which the page sends its calls with. null: the element makes its own. */
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
  /** Takes precedence over the gateway's. */
  upgradeUrl: string | null;
  /** Whether the dialog is shown. */
  readonly open: boolean;
  /** Opens the dialog. endpoint is what the user wanted to call; default: any. */
  show(endpoint?: string | null): void;
  close(): void;

  addEventListener<K extends keyof UsageUpgradeEventMap>(
    type: K,
    listener: (this: UsageUpgrade, event: UsageUpgradeEventMap[K]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener<K extends keyof HTMLElementEventMap>(
    type: K,
    listener: (this: UsageUpgrade, event: HTMLElementEventMap[K]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
}

declare global {
  interface HTMLElementTagNameMap {
    'usage-upgrade': UsageUpgrade;
  }
}
