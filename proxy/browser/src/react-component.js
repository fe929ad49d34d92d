// react-component.js is what the components of react.js share.

export { componentOf } from './react/component.js';
