// <usage-chart> shows what was used on each of the last days, by endpoint, and whether the limit
// lasts at this pace.
//
//   <script type="module" src="https://gateway.example.com/usage/chart.js"></script>
//   <usage-chart></usage-chart>
//   <script type="module">
//     document.querySelector('usage-chart').getToken = () => session.token;
//   </script>
//
// The gateway must keep a history: `history: { keep: 35d }` in its configuration.
//
// Attributes: base-url (default: where this file came from), token, days (default 30), label,
// theme (light or dark; default: the system's). Properties: client (of client.js, to share one),
// getToken, messages (to translate). Parts: card, label, count, total, unit, when, plot, notice,
// legend, forecast. Colours and sizes: the --usage-meter-* properties of <usage-meter>,
// --usage-meter-series-1 to -5 and --usage-meter-series-other, --usage-meter-chart-height.
//
// It builds its nodes and its style sheet by script, so a Content-Security-Policy needs
// neither 'unsafe-inline' nor an exception for Trusted Types.

import { UsageChart } from './chart/element.js';

if (globalThis.customElements && !customElements.get('usage-chart')) customElements.define('usage-chart', UsageChart);

export { UsageChart };
