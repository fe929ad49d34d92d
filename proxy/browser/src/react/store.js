/**
 * What useUsage returns. A new object is made for each state, with a new canSend: so it can be in
 * the dependencies of a hook, and code that a compiler memoizes notices every change.
 * @typedef {import('../../react.d.ts').UsageSnapshot} UsageSnapshot
 */

/** @type {UsageSnapshot} nothing is known, so the gateway decides */
const NOTHING = { usage: null, problem: null, connection: 'idle', client: null, canSend: () => true };

/** What React reads: the state of a client. There is none on a server, and in the first render. */
export class Store {
  /** @type {UsageSnapshot} */ #last = NOTHING;

  /** @param {import('../../client.d.ts').UsageClient | null} client */
  constructor(client) {
    this.client = client;
  }

  /** @param {() => void} changed */
  subscribe = (changed) => {
    const { client } = this;
    if (!client) return () => {};
    const unsubscribe = client.subscribe(changed);
    // Subscribers do not hear of a gateway that has never answered.
    client.addEventListener('connection', changed);
    return () => {
      unsubscribe();
      client.removeEventListener('connection', changed);
    };
  };

  /** @returns {UsageSnapshot} the same object until something has changed */
  read = () => {
    const { client } = this;
    if (!client) return NOTHING;
    const { current: usage, problem, connection } = client;
    const last = this.#last;
    if (last.client !== client || last.usage !== usage || last.problem !== problem || last.connection !== connection) {
      this.#last = { usage, problem, connection, client, canSend: (endpoint) => client.canSend(endpoint) };
    }
    return this.#last;
  };

  readOnServer = () => NOTHING;
}
