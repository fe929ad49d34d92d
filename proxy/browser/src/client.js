// client.js follows the usage of one user of a Metergate gateway, live, in the browser.
//
//   import { createUsageClient } from 'https://gateway.example.com/usage/client.js';
//   const usage = createUsageClient({ getToken: () => session.token });
//   usage.subscribe((state) => render(state));   // { used: 42, limit: 100, pending: 0, ... }
//   await usage.fetch('https://gateway.example.com/api/analyze', { method: 'POST', body });
//
// The client does not count: the numbers are the last ones that the gateway sent. One
// stream serves all tabs of a browser; where a stream cannot be opened, the client polls.
// Problems show in `connection` and `stale` and never affect the application's calls.
// client.d.ts has the types.

export { UsageClient, createUsageClient } from './client/usage-client.js';
export { EventStreamParser } from './client/event-stream.js';
