// react-provider.js is the part of react.js that needs no elements.

export { UsageProvider, useUsage } from './react/provider.js';
export { componentOf } from './react/component.js';
