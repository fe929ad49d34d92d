// Types of react.js, for React 18 and 19.

import type { DetailedHTMLProps, ForwardRefExoticComponent, HTMLAttributes, ReactElement, ReactNode, RefAttributes } from 'react';
import type { UsageChart as UsageChartElement } from './chart.js';
import type { Connection, ConnectionProblem, UsageClient, UsageClientOptions, UsageState } from './client.js';
import type { Messages } from './messages.js';
import type { UpgradeEvent, UsageMeter as UsageMeterElement } from './meter.js';
import type { UsageUpgrade as UsageUpgradeElement } from './upgrade.js';

export interface UsageProviderProps {
  /** As in the options of createUsageClient. Another value makes another client. */
  baseUrl?: UsageClientOptions['baseUrl'] | undefined;
  /** As in the options of createUsageClient. It may be a new function in each render. */
  getToken?: UsageClientOptions['getToken'] | undefined;
  credentials?: UsageClientOptions['credentials'] | undefined;
  /** A client that the app has made. The provider then makes none, and does not close it. */
  client?: UsageClient | null | undefined;
  children?: ReactNode | undefined;
}

/** Gives all components below it one client. It is closed when the provider is unmounted. */
export function UsageProvider(props: UsageProviderProps): ReactElement;

export interface UsageSnapshot {
  /** null until the gateway has answered, and while nobody is signed in: see problem. */
  usage: UsageState | null;
  /** Why there are no numbers, or no new ones; null: none is known. */
  problem: ConnectionProblem;
  connection: Connection;
  /** null on a server and in the first render. */
  client: UsageClient | null;
  /**
   * Whether a call to an endpoint, or to any if it is left out, would be admitted now. It is also true
   * while nothing is known. It is another function whenever its answers may have changed.
   */
  canSend: (endpoint?: string) => boolean;
}

/** What the user has used. The component is rendered again after each change. */
export function useUsage(): UsageSnapshot;

interface ElementProps<E extends HTMLElement> extends Omit<HTMLAttributes<E>, 'children' | 'onClose'> {
  /** The client to follow; default: that of the provider. */
  client?: UsageClient | null | undefined;
  /** Texts that replace those of the page's language, all or some. */
  messages?: Partial<Messages> | undefined;
  /** Default: the system's. */
  theme?: 'light' | 'dark' | undefined;
}

export interface UsageMeterProps extends ElementProps<UsageMeterElement> {
  label?: string | undefined;
  compact?: boolean | undefined;
  /** The endpoints whose price is shown, separated by spaces. */
  price?: string | undefined;
  /** Takes precedence over the gateway's. */
  upgradeUrl?: string | undefined;
  /** preventDefault() keeps the upgrade URL from opening. */
  onUpgrade?: ((event: UpgradeEvent) => void) | undefined;
  /** With slot="upgrade" they replace the button. */
  children?: ReactNode | undefined;
}

/** The element <usage-meter>. It is not rendered on a server. */
export const UsageMeter: ForwardRefExoticComponent<UsageMeterProps & RefAttributes<UsageMeterElement>>;

export interface UsageChartProps extends ElementProps<UsageChartElement> {
  label?: string | undefined;
  /** 1 to 400, at most as many as the gateway keeps. Default: 30. */
  days?: number | undefined;
}

/** The element <usage-chart>. It is not rendered on a server. */
export const UsageChart: ForwardRefExoticComponent<UsageChartProps & RefAttributes<UsageChartElement>>;

export interface UpgradeDialogProps extends ElementProps<UsageUpgradeElement> {
  /** Takes precedence over the gateway's. */
  upgradeUrl?: string | undefined;
  /** The user follows the link. After preventDefault() it does not open, and the dialog closes. */
  onUpgrade?: ((event: UpgradeEvent) => void) | undefined;
  onClose?: ((event: Event) => void) | undefined;
  /** With slot="upgrade" they replace the button. */
  children?: ReactNode | undefined;
}

/**
 * The element <usage-upgrade>: a dialog, which opens when a call is refused, and when promptUpgrade of the
 * client is called. It is not rendered on a server.
 */
export const UpgradeDialog: ForwardRefExoticComponent<UpgradeDialogProps & RefAttributes<UsageUpgradeElement>>;

/** The attributes and properties of an element in JSX. React 18 does not set client and messages. */
type Intrinsic<E extends HTMLElement, Attributes> = DetailedHTMLProps<HTMLAttributes<E>, E> & Attributes & {
  class?: string | undefined;
  client?: UsageClient | null | undefined;
  messages?: Partial<Messages> | undefined;
  'base-url'?: string;
  token?: string | undefined;
  theme?: 'light' | 'dark' | undefined;
};

declare module 'react' {
  // eslint-disable-next-line @typescript-eslint/no-namespace
  namespace JSX {
    interface IntrinsicElements {
      'usage-chart': Intrinsic<UsageChartElement, { label?: string; days?: number }>;
      'usage-meter': Intrinsic<UsageMeterElement, { label?: string; compact?: boolean; price?: string; 'upgrade-url'?: string }>;
      'usage-upgrade': Intrinsic<UsageUpgradeElement, { 'upgrade-url'?: string }>;
    }
  }
}
