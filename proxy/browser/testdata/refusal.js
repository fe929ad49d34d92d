import '/usage/meter.js';
import { end, fakeClient, refused, usage } from './states.js';

const meter = document.querySelector('usage-meter');
const month = { ...refused, endpoint: 'analyze', violated: ['month'] };
const client = meter.client = fakeClient(usage(42));
const part = (name) => meter.shadowRoot.querySelector(`[part="${name}"]`);
Object.assign(window, { client, end, meter, month, part, refused, usage, ready: true });
