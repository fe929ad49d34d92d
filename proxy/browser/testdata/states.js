// Made-up states, and clients that have them.

export const end = '2026-12-01T00:00:00Z';

/** Makes a state with this much of a limit used. */
export function usage(used, { limit = 100, images = Math.min(12, used), ...more } = {}) {
  const limited = limit !== null;
  const status = !limited || used < limit * 0.8 ? 'ok' : used < limit ? 'warning' : 'blocked';
  return {
    user: 'u-17', plan: 'free', used, limit,
    remaining: limited ? Math.max(0, limit - used) : null,
    percent: limit ? Math.floor(used * 100 / limit) : null,
    in_flight: 0, status, allowed: status !== 'blocked',
    period: { per: 'month', start: '2026-11-01T00:00:00Z', end },
    endpoints: {
      analyze: { used: Math.max(0, used - 24) },
      drill: { used: 0 },
      'image-analysis': { used: images, limit: 20, remaining: 20 - images, percent: images * 5, status: images < 16 ? 'ok' : images < 20 ? 'warning' : 'blocked', allowed: images < 20 },
      report: { used: Math.min(7, used) },
    },
    limits: !limited ? [] : [
      { name: 'month', per: 'month', used, limit, remaining: Math.max(0, limit - used), resets_at: end },
      { name: 'minute', per: 'minute', used: 12, limit: 60, remaining: 48, resets_at: end },
      { name: 'image-analysis-month', endpoint: 'image-analysis', per: 'month', used: images, limit: 20, remaining: 20 - images, resets_at: end },
    ],
    stale: false, as_of: new Date().toISOString(), pending: 0, connection: 'live', refused: null,
    ...more,
  };
}

/** The state of a plan that counts credits, with a second and a soft limit. */
export function credits(used, more) {
  const state = usage(used, { limit: 5000, plan: 'pro', unit: 'units', unit_name: 'credits' });
  Object.entries(state.endpoints).forEach(([name, e]) => {
    const max = { 'image-analysis': 5, report: 20 }[name] ?? 1;
    Object.assign(e, { units: e.used * Math.min(5, max), cost: { min: Math.min(5, max), max }, allowed: true });
  });
  state.limits = [
    { name: 'month-units', per: 'month', unit: 'units', used, limit: 5000, remaining: 5000 - used, resets_at: end },
    { name: 'month', per: 'month', unit: 'requests', used: 812, limit: 1234, remaining: 422, resets_at: end },
    { name: 'month-units-soft', per: 'month', unit: 'units', soft: true, over: Math.max(0, used - 4000), used, limit: 4000, remaining: 0, resets_at: end },
    { name: 'image-analysis-month', endpoint: 'image-analysis', per: 'month', unit: 'requests', used: 12, limit: 20, remaining: 8, resets_at: end },
  ];
  return { ...state, ...more };
}

export const upgrade_url = 'https://example.com/pricing';
export const refused = { endpoint: 'image-analysis', violated: ['image-analysis-month'], detail: '', upgrade_url, retry_after: 100 };

/** A client with this state, which show replaces. */
export function fakeClient(current, more) {
  const subscribers = new Set();
  const client = Object.assign(new EventTarget(), {
    current, connection: 'live', problem: null,
    subscribe(fn) {
      subscribers.add(fn);
      fn(this.current);
      return () => subscribers.delete(fn);
    },
    canSend(endpoint) {
      const { allowed, endpoints } = this.current;
      return allowed && (endpoints[endpoint]?.allowed ?? true);
    },
    dismiss() { this.show({ ...this.current, refused: null }); },
    show(state) {
      this.current = state;
      subscribers.forEach((fn) => fn(state));
    },
    refuse(refusal, state = this.current) {
      this.show({ ...state, refused: refusal });
      this.dispatchEvent(new CustomEvent('usage-exceeded', { detail: { ...this.current, ...refusal } }));
    },
  }, more);
  return client;
}
