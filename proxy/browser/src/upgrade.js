// <usage-upgrade> is a dialog that opens when a call is refused because a limit is reached.
//
//   <script type="module" src="https://gateway.example.com/usage/upgrade.js"></script>
//   <usage-upgrade></usage-upgrade>
//   <script type="module">
//     document.querySelector('usage-upgrade').client = client;   // of client.js
//   </script>
//
// It opens on the client's events usage-exceeded and upgrade-prompt, and by show(endpoint).
// Give it the client that the page sends its calls with. It says which limit keeps calls
// out and when that resets, and leads to the upgrade URL, if there is one. Many calls that
// are refused at once open it once. After the user has closed it, it opens again when a call
// is refused that was sent later.
//
// It closes by itself when calls are admitted again, as after an upgrade in another tab. If the
// user has pressed a key in it, or clicked on anything but the link, it stays and says that
// calls are admitted again.
//
// Attributes: base-url, token, theme (light or dark; default: the system's), upgrade-url
// (takes precedence over the gateway's). Properties: client, getToken, messages (of
// messages.js), open. Methods: show(endpoint), close(). Events: close; upgrade, when the user
// follows the link: after preventDefault it does not open, and the dialog closes to make
// room for the page's own. Slot: upgrade, replaces the link. Parts: dialog, plan,
// prompt-title, prompt-text, label, count, bar, fill, reset, upgrade-button, later, dismiss.
// Colours: the --usage-meter-* properties of meter.js.

import { UsageUpgrade } from './upgrade/element.js';

if (globalThis.customElements && !customElements.get('usage-upgrade')) customElements.define('usage-upgrade', UsageUpgrade);

export { UsageUpgrade };
