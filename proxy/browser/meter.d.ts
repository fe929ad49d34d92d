// Types of meter.js, which defines the element <usage-meter>.

import type { UsageClient, UsageClientOptions, UsageState } from './client.js';
import type { Messages } from './messages.js';

/** The user asks for more. preventDefault() keeps the upgrade URL from opening. */
export type UpgradeEvent = CustomEvent<{ url: string; state: UsageState | null }>;

export interface UsageMeterEventMap {
  upgrade: UpgradeEvent;
}

/** Attributes: base-url, token, label, compact, theme (light or dark), price, upgrade-url. */
export class UsageMeter extends HTMLElement {
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
  label: string | null;
  /** The endpoints whose price is shown, separated by spaces. */
  price: string | null;
  /** Takes precedence over the gateway's. */
  upgradeUrl: string | null;
  compact: boolean;

  addEventListener<K extends keyof UsageMeterEventMap>(
    type: K,
    listener: (this: UsageMeter, event: UsageMeterEventMap[K]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener<K extends keyof HTMLElementEventMap>(
    type: K,
    listener: (this: UsageMeter, event: HTMLElementEventMap[K]) => void,
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
    'usage-meter': UsageMeter;
  }
}
