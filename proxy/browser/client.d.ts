// Types of client.js. The usage object is that of GET /usage.

export type Status = 'ok' | 'warning' | 'blocked';
export type Per = 'minute' | 'hour' | 'day' | 'week' | 'month' | 'year';

export interface EndpointUsage {
  used: number;
  /** With a limit of its own over the period. */
  limit?: number;
  remaining?: number;
  percent?: number;
  status?: Status;
  /** With a limit of its own: a call would be admitted. */
  allowed?: boolean;
}

export interface LimitUsage {
  name: string;
  endpoint?: string;
  per: Per;
  used: number;
  limit: number;
  remaining: number;
  resets_at: string;
}

export interface Usage {
  user: string;
  plan: string;
  used: number;
  /** null without a limit; so are remaining and percent. */
  limit: number | null;
  remaining: number | null;
  percent: number | null;
  /** Units that running calls hold, of all devices. */
  in_flight: number;
  status: Status;
  /** A call would pass now. With status blocked: the plan blocks nothing (mode: observe). */
  allowed: boolean;
  period: { per: Per; start: string; end: string };
  endpoints: Record<string, EndpointUsage>;
  limits: LimitUsage[];
  stale: boolean;
  as_of: string;
  upgrade_url?: string;
}

/**
 * idle: nothing is open, at the start and in hidden tabs. live: pushed. polling:
 * read every 10 seconds. offline: nothing answers; the state is stale.
 */
export type Connection = 'idle' | 'live' | 'polling' | 'offline';

/**
 * unreachable: no answer. unavailable: an answer without numbers. unauthorized: the
 * token is refused, or there is none. token: getToken failed.
 */
export type ConnectionProblem = null | 'unreachable' | 'unavailable' | 'unauthorized' | 'token';

/** The limit that refused a call of this tab. A 429 for too many attempts is none. */
export interface Refusal {
  endpoint: string | null;
  /** Names of the limits that are reached. */
  violated: string[];
  detail: string;
  upgrade_url: string | null;
  /** Seconds until a call may succeed. */
  retry_after: number | null;
}

export interface UsageState extends Usage {
  /** Running calls of this browser, in all tabs. */
  pending: number;
  /** The gateway has lost its store, or does not answer: the last known numbers. */
  stale: boolean;
  connection: Connection;
  /** The last call of this tab that was refused; null again once one would be admitted. */
  refused: Refusal | null;
}

export interface UsageClientOptions {
  /** The gateway's address; default: where client.js came from. */
  baseUrl?: string | URL;
  /**
   * The token of the user who is signed in, or null. It is asked for each request, so
   * keep it at hand; `refresh` is true when the last one was refused or has expired.
   * Without getToken no Authorization field is sent.
   */
  getToken?: (options: { refresh: boolean }) => string | null | undefined | Promise<string | null | undefined>;
  /** What sends the requests; default: window.fetch. */
  fetch?: typeof globalThis.fetch;
}

export interface UsageClientEventMap {
  /** After every change. */
  usage: CustomEvent<UsageState>;
  /** The status turned from ok to warning. */
  'usage-warning': CustomEvent<UsageState>;
  /** A call of this tab was refused. */
  'usage-exceeded': CustomEvent<UsageState & Refusal>;
  connection: CustomEvent<{ connection: Connection; problem: ConnectionProblem }>;
}

export class UsageClient extends EventTarget {
  constructor(options?: UsageClientOptions);
  /** The last known state; null before the first. Another object after each change. */
  readonly current: UsageState | null;
  readonly connection: Connection;
  readonly problem: ConnectionProblem;
  readonly baseUrl: string;
  /**
   * Calls fn with the current state, if there is one, and after every change; with
   * null when the user has changed and nothing is known of the new one.
   */
  subscribe: (fn: (state: UsageState | null) => void) => () => void;
  /** Asks the gateway now, with the token as it is now. Never rejects. */
  refresh: () => Promise<UsageState | null>;
  /** window.fetch, with the token and the pending part for calls to the gateway. */
  fetch: typeof globalThis.fetch;
  /** Ends everything. */
  close: () => void;

  addEventListener<K extends keyof UsageClientEventMap>(
    type: K,
    listener: (this: UsageClient, event: UsageClientEventMap[K]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  removeEventListener<K extends keyof UsageClientEventMap>(
    type: K,
    listener: (this: UsageClient, event: UsageClientEventMap[K]) => void,
    options?: boolean | EventListenerOptions,
  ): void;
  removeEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | EventListenerOptions,
  ): void;
}

export function createUsageClient(options?: UsageClientOptions): UsageClient;

/** Parses text/event-stream. */
export class EventStreamParser {
  constructor(onEvent: (type: string, data: string) => void);
  push(bytes: Uint8Array): void;
}
