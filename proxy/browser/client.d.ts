// Types of client.js. The usage object is that of GET /usage.

export type Status = 'ok' | 'warning' | 'blocked';
export type Per = 'minute' | 'hour' | 'day' | 'week' | 'month' | 'year';

/** What the numbers count. Absent unless the gateway has costs or limits on units. */
export type Unit = 'requests' | 'units';

export interface EndpointUsage {
  /** Requests. */
  used: number;
  /** What they cost, and what one costs; absent unless the gateway has to do with units. */
  units?: number;
  cost?: { min: number; max: number };
  /** 'units' if limit and remaining are in units. */
  unit?: Unit;
  /** Present if the endpoint has its own limit over the period; so are the next four. */
  limit?: number;
  remaining?: number;
  percent?: number;
  status?: Status;
  /** Whether a call would be admitted. */
  allowed?: boolean;
}

export interface LimitUsage {
  name: string;
  endpoint?: string;
  per: Per;
  unit?: Unit;
  /** It refuses nobody; over is what was used above it. */
  soft?: boolean;
  over?: number;
  used: number;
  limit: number;
  remaining: number;
  resets_at: string;
}

export interface Usage {
  user: string;
  plan: string;
  /** Of the headline limit. */
  unit?: Unit;
  /** What the UI calls a unit, such as credits. */
  unit_name?: string;
  used: number;
  /** null if there is no limit; so are remaining and percent. */
  limit: number | null;
  remaining: number | null;
  percent: number | null;
  /** Units that running calls hold, on all devices. */
  in_flight: number;
  status: Status;
  /** Whether a call would be admitted now. With status blocked: the plan only observes. */
  allowed: boolean;
  period: { per: Per; start: string; end: string };
  endpoints: Record<string, EndpointUsage>;
  limits: LimitUsage[];
  stale: boolean;
  as_of: string;
  upgrade_url?: string;
}

/**
 * idle: nothing is open, at the start and in hidden tabs. live: the gateway pushes changes.
 * polling: the client reads every 10 seconds. offline: no answer; the state is stale.
 */
export type Connection = 'idle' | 'live' | 'polling' | 'offline';

/**
 * unreachable: no answer. unavailable: an answer without usage numbers. unauthorized: the
 * token was refused, or there is none. token: getToken failed.
 */
export type ConnectionProblem = null | 'unreachable' | 'unavailable' | 'unauthorized' | 'token';

/** Why a limit refused a call of this tab. A 429 for too many attempts does not count. */
export interface Refusal {
  endpoint: string | null;
  /** Names of the limits that were reached. */
  violated: string[];
  /** "not_in_plan" if the plan does not include such calls: waiting does not help. */
  reason: string | null;
  detail: string;
  upgrade_url: string | null;
  /** Seconds until a call may succeed. */
  retry_after: number | null;
}

export interface UsageState extends Usage {
  /** Running calls of this browser, in all tabs. */
  pending: number;
  /** The numbers are the last known ones: the gateway, or its store, does not answer. */
  stale: boolean;
  connection: Connection;
  /** The last refusal of a call of this tab; null once a call would be admitted again. */
  refused: Refusal | null;
}

export interface UsageClientOptions {
  /** The gateway's address; default: where client.js was loaded from. */
  baseUrl?: string | URL;
  /**
   * Returns the token of the user who is signed in, or null. It is called for each request,
   * so it should be fast. Whose token it is, the gateway says: until it has answered, a token
   * that may be another user's makes the state null. `refresh` is true if the last token was refused or has expired.
   * Without getToken no Authorization header is sent.
   */
  getToken?: (options: { refresh: boolean }) => string | null | undefined | Promise<string | null | undefined>;
  /** Sends the requests; default: window.fetch. */
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
  /** The last known state; null before the first. Each change makes a new object. */
  readonly current: UsageState | null;
  readonly connection: Connection;
  readonly problem: ConnectionProblem;
  readonly baseUrl: string;
  /**
   * Calls fn with the current state, if there is one, and after every change. When the user
   * has changed, fn gets null until the state of the new one is known. Returns a function
   * that ends the subscription.
   */
  subscribe: (fn: (state: UsageState | null) => void) => () => void;
  /** Asks the gateway now, with the current token. Never rejects; see `stale`. */
  refresh: () => Promise<UsageState | null>;
  /**
   * A drop-in for window.fetch: adds the token to calls to the gateway and shows them as
   * pending. A call that has an Authorization header passes through: it may be another user's.
   */
  fetch: typeof globalThis.fetch;
  /** Ends streams, timers and subscriptions. `fetch` still works. */
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

/** Parses text/event-stream, as the HTML standard defines it. */
export class EventStreamParser {
  constructor(onEvent: (type: string, data: string) => void);
  push(bytes: Uint8Array): void;
}
