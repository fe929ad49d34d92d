// Types of client.js. The usage object is that of GET /usage.

export type Status = 'ok' | 'warning' | 'blocked';
export type Per = 'minute' | 'hour' | 'day' | 'week' | 'month' | 'year' | 'ever';

/** What the numbers count. Absent unless the gateway has costs or limits on units. */
export type Unit = 'requests' | 'units';

/** Units that one request may be charged: all of them if min and max are the same. */
export interface Cost {
  min: number;
  max: number;
}

export interface EndpointUsage {
  /** Requests. */
  used: number;
  /** What these requests were charged. Like cost, absent unless the gateway has costs or limits on units. */
  units?: number;
  /** Of one request. If several routes count under the endpoint: of the cheapest and the dearest. */
  cost?: Cost;
  /** Present if limit and remaining are in units; otherwise they are in requests. */
  unit?: 'units';
  /** Present if the endpoint has its own limit over the period; so are remaining, percent and status. */
  limit?: number;
  remaining?: number;
  percent?: number;
  status?: Status;
  /**
   * Whether a call would be admitted now, whatever it costs. Present if the endpoint has its
   * own limit over any period, and wherever cost is. canSend of the client takes it into account.
   */
  allowed?: boolean;
}

export interface LimitUsage {
  name: string;
  endpoint?: string;
  per: Per;
  unit?: Unit;
  /** What limit contains of the window before; absent unless the limit carries. */
  carried?: number;
  /** Present if the limit refuses nobody. over is then what was used above it. */
  soft?: true;
  over?: number;
  /** Present if the members of the organisation share the limit. The numbers are then those of all of them. */
  shared?: true;
  used: number;
  limit: number;
  remaining: number;
  /** null if it does not renew: per ever. */
  resets_at: string | null;
}

export interface Usage {
  user: string;
  /** The user's organisation; absent unless the token names one. */
  org?: string;
  plan: string;
  /** Of the headline limit. */
  unit?: Unit;
  /** What the UI calls a unit, such as credits. */
  unit_name?: string;
  used: number;
  /** null if there is no limit; so are remaining and percent. */
  limit: number | null;
  /** What limit contains of the window before; absent unless the limit carries. */
  carried?: number;
  remaining: number | null;
  percent: number | null;
  /** What running calls hold of the headline limit, on all devices, in its unit. */
  in_flight: number;
  status: Status;
  /**
   * Whether a call that costs one unit would be admitted now, as far as limits without an
   * endpoint go. With status blocked: the plan only observes, or the headline limit is soft.
   */
  allowed: boolean;
  /** Of the headline; start and end are null if it does not renew. */
  period: { per: Per; start: string | null; end: string | null };
  endpoints: Record<string, EndpointUsage>;
  limits: LimitUsage[];
  stale: boolean;
  as_of: string;
  upgrade_url?: string;
  /**
   * When the headline limit will be reached at the pace of the last seven days. null: not before it
   * renews, or nobody can tell yet. Absent unless the gateway keeps a history.
   */
  exhausts_at?: string | null;
}

/** Requests and, where the gateway reports units, what they were charged. */
export interface Used {
  used: number;
  units?: number;
}

/** One day in the gateway's time zone. date is like 2026-11-29. */
export interface UsageDay extends Used {
  date: string;
  endpoints: Record<string, Used>;
}

/** What GET /usage/history answers. */
export interface UsageHistory {
  user: string;
  per: 'day';
  from: string;
  to: string;
  timezone: string;
  /** Each day of the range, used or not; the oldest first, today last. */
  days: UsageDay[];
  stale: boolean;
  as_of: string;
}

/** What history rejects with. */
export interface HistoryError extends Error {
  /** off: the gateway keeps no history. */
  problem: Exclude<ConnectionProblem, null> | 'off';
}

/**
 * idle: nothing is open, at the start and in hidden tabs. live: the gateway pushes changes.
 * polling: the client reads at least every 10 seconds. offline: no answer; the state is stale.
 */
export type Connection = 'idle' | 'live' | 'polling' | 'offline';

/**
 * unreachable: no answer. unavailable: an answer without usage numbers. unauthorized: the
 * token was refused, or there is none. token: getToken failed, or has not answered for 10 seconds.
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
  /** When the call was made, as Date.now(): calls that are refused together were made together. */
  sent_at: number;
}

export interface UsageState extends Usage {
  /**
   * What the running calls of this browser, in all tabs, may add to `used`: their number or,
   * if `unit` is 'units', the most that they may cost. A call whose cost stands in its response's
   * body is counted when its response begins. What it may cost beyond that is pending until the body
   * has been read or cancelled.
   */
  pending: number;
  /** The numbers are the last known ones: the gateway, or its store, does not answer. */
  stale: boolean;
  connection: Connection;
  /** The last refusal of a call of this tab; null once a call would be admitted again. */
  refused: Refusal | null;
}

export interface UsageClientOptions {
  /**
   * The gateway's address, such as https://gateway.example.com, or a path such as /gateway; '' and
   * '/' are the origin of the page. Default: where the gateway has served client.js or, in a
   * bundle, the origin of the page. Anything else throws an Error.
   */
  baseUrl?: string | URL;
  /**
   * Returns the token of the user who is signed in, or null. It is called for each request,
   * so it should be fast. Whose token it is, the gateway says: until it has answered, a token
   * that may be another user's makes the state null. `refresh` is true if the last token was refused or has expired.
   * If it does not answer within 10 seconds, a call that was refused gets its 401.
   * Without getToken no Authorization header is sent: leave it out if the token is in a cookie. Then a 401 of
   * the gateway makes the state null, and a tab that becomes visible asks whose the cookie is.
   */
  getToken?: (options: { refresh: boolean }) => string | null | undefined | Promise<string | null | undefined>;
  /**
   * 'include' sends the cookies of the gateway with every request, if the pages have another
   * origin than the gateway. It also applies to calls of `fetch` that do not say which cookies to send.
   * Default: cookies are sent to the same origin.
   */
  credentials?: RequestCredentials;
  /**
   * Reads the numbers at least every 10 seconds, alone, instead of sharing a stream with other tabs. Without it, a
   * client that has no document, as in a worker, follows nothing: only `fetch`, `refresh` and `history` ask
   * the gateway.
   */
  poll?: boolean;
  /** Sends the requests; default: window.fetch. */
  fetch?: typeof globalThis.fetch;
}

export interface UsageRequestInit extends RequestInit {
  /**
   * The endpoint that the call counts under, such as 'image-analysis': `pending` then shows
   * its price at once. Without it the client learns it from the answers to earlier calls.
   */
  usageEndpoint?: string;
}

export interface UsageClientEventMap {
  /** After every change. */
  usage: CustomEvent<UsageState>;
  /**
   * One or more limits, also those of endpoints, have reached 80 % (the headline limit: what the
   * gateway has for `warn_at`) and are not used up. warned has their names.
   */
  'usage-warning': CustomEvent<UsageState & { warned: string[] }>;
  /** A call of this tab was refused. */
  'usage-exceeded': CustomEvent<UsageState & Refusal>;
  /** promptUpgrade was called. */
  'upgrade-prompt': CustomEvent<UsageState & { endpoint: string | null }>;
  connection: CustomEvent<{ connection: Connection; problem: ConnectionProblem }>;
}

/** On a server, where there is no page, a client follows nothing: fetch, refresh and history ask the gateway. */
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
   * Whether a call to an endpoint, or to any if it is left out, would be admitted now. It is
   * also true while nothing is known, so that the gateway decides.
   */
  canSend: (endpoint?: string) => boolean;
  /**
   * A drop-in for window.fetch: adds the token to calls to the gateway and shows them as
   * pending. A call that has an Authorization header passes through: it may be another user's.
   * The response's header X-Usage-Cost has the units that the call was charged so far. If it has
   * X-Usage-Pending, it may be charged so many more when its body has ended.
   */
  fetch: (input: RequestInfo | URL, init?: UsageRequestInit) => Promise<Response>;
  /**
   * Reads what was used on each of the last days, today included. Default: 30, or as many as the
   * gateway keeps. Rejects with a HistoryError.
   */
  history: (days?: number) => Promise<UsageHistory>;
  /**
   * Dispatches `upgrade-prompt`, which opens what shows upgrades, such as <usage-upgrade>. Call it
   * when somebody clicks while canSend is false. Without a state it does nothing.
   */
  promptUpgrade: (endpoint?: string | null) => void;
  /** Forgets the last refusal: `refused` becomes null. */
  dismiss: () => void;
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
