// <usage-meter> shows how much of a quota is used, live.
//
//   <script type="module" src="https://gateway.example.com/usage/meter.js"></script>
//   <usage-meter></usage-meter>
//   <script type="module">
//     document.querySelector('usage-meter').getToken = () => session.token;
//   </script>
//
// Attributes: base-url (default: where this file came from), token, label, compact,
// theme (light or dark; default: the system's), price (endpoints, separated by spaces, of
// which it says what a request costs), upgrade-url (takes precedence over the gateway's).
// Properties: client (of client.js, to share one), getToken, messages (of messages.js, to
// replace texts), and one for each attribute, such as upgradeUrl. It speaks the language of the lang attribute nearest to it.
// Event: upgrade, when the user asks for more; preventDefault keeps the upgrade URL from
// opening. Slot: upgrade, replaces the button. Parts: card, label, plan, count, used,
// limit, remaining, bar, fill, pending, carried, pool, pool-label, pool-count, pool-bar,
// pool-carried, status, attention, running, reset, price, notice, details, summary, endpoints, prompt,
// prompt-title, prompt-text, upgrade-button, dismiss. Colours and sizes: the --usage-meter-*
// properties below.
//
// It builds its nodes and its style sheet by script, so a Content-Security-Policy needs
// neither 'unsafe-inline' nor an exception for Trusted Types.

import { UsageMeter } from './meter/element.js';

if (globalThis.customElements && !customElements.get('usage-meter')) customElements.define('usage-meter', UsageMeter);

export { UsageMeter };
