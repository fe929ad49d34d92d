// What the elements of this gateway share: following a client, language, limits, colours.
// It is not for applications, and may change with every version.

export { ClientElement, reflectProperties } from './elements/client-element.js';
export { describeMeter, dispatchUpgrade, leadToUpgrade, reflect, showText, speak } from './elements/dom.js';
export { endpointLimit, headlineLimit, limitReason, limitText, poolLimit, unitName } from './elements/limits.js';
export { Locale } from './elements/locale.js';
export { nodeBuilder } from './elements/nodes.js';
export { sheetsOf } from './elements/theme.js';
