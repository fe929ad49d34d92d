/**
 * What useUsage returns. A new object is made for each state, with a new canSend: so it can be in
 * the dependencies of a hook, and code that a compiler memoizes notices every change.
 * @typedef {import('../../react.d.ts').UsageSnapshot} UsageSnapshot
 */

/** @type {UsageSnapshot} on a server, and in the first render: nothing is known, so the gateway decides */
const NOTHING = { usage: null, problem: null, connection: 'idle', client: null, canSend: () => true };

export const readOnServer = () => NOTHING;

/**
 * What React reads: the state of a client.
 * @param {import('../../client.d.ts').UsageClient | null} client
 */
export function createStore(client) {
  let last = NOTHING;
  return {
    /** @param {() => void} changed */
    subscribe(changed) {
      if (!client) return () => {};
      const unsubscribe = client.subscribe(changed);
      // Subscribers do not hear of a gateway that has never answered.
      client.addEventListener('connection', changed);
      return () => {
        unsubscribe();
        client.removeEventListener('connection', changed);
      };
    },

    /** @returns {UsageSnapshot} the same object until something has changed */
    read() {
      if (!client) return NOTHING;
      const { current: usage, problem, connection } = client;
      if (last === NOTHING || last.usage !== usage || last.problem !== problem || last.connection !== connection) {
        last = { usage, problem, connection, client, canSend: (endpoint) => client.canSend(endpoint) };
      }
      return last;
    },
  };
}
