// What the elements of this gateway share: following a client, language, colours. It is not
// for applications, and may change with every version.

export { ClientElement, reflectProperties } from './elements/client-element.js';
export { reflect, showText, webURL } from './elements/dom.js';
export { endpointLimit, headlineLimit, limitText, neededOf, poolLimit, refusingLimit, unitName } from './elements/limits.js';
export { Locale } from './elements/locale.js';
export { sheetsOf } from './elements/theme.js';
