// The user's usage on this page. This is the part to copy into a front end of your own: a client, the
// elements that show what it knows, and how a page sends its calls. The rest of the dashboard is a
// playground around it.
import { createUsageClient } from '/usage/client.js';
import '/usage/meter.js';
import '/usage/chart.js';
import '/usage/upgrade.js';
import { currentToken } from './session.js';

// 1. One client for the whole page. The gateway counts, and pushes each change to it; nothing here
//    counts. Your gateway probably has an address of its own: baseUrl: 'https://api.example.com'.
export const usage = createUsageClient({ baseUrl: '/', getToken: currentToken });

// 2. The elements show what the client knows. The meters and the chart need nothing else. The
//    dialog of <usage-upgrade> opens by itself when a call is refused.
for (const element of document.querySelectorAll('usage-meter, usage-chart, usage-upgrade')) element.client = usage;

// 3. Calls are sent with usage.fetch, which is fetch with the user's token. The meter shows them as
//    running at once. With usageEndpoint it also knows what they may cost before the answer comes.
export const post = (path, body, type, endpoint) => usage.fetch(path, {
  method: 'POST', body, headers: { 'Content-Type': type }, usageEndpoint: endpoint,
});

// 4. Buttons say what a call costs. They are not disabled at a limit: a user who clicks wants to know
//    why. This page makes the call anyway, and its refusal opens the dialog. To open it without a
//    call: if (!usage.canSend(endpoint)) return usage.promptUpgrade(endpoint);
export function showPrices(buttons, state) {
  // Without a limit on units nobody is charged a price.
  const counted = state?.limits.some((limit) => limit.unit === 'units');
  for (const button of buttons) {
    const { min, max } = (counted && state.endpoints[button.dataset.call]?.cost) || { max: 1 };
    const price = button.querySelector('.price');
    price.textContent = max > 1 ? `${min < max ? 'up to ' : ''}${max} ${state.unit_name ?? 'units'}` : '';
    price.hidden = !price.textContent;
  }
}
