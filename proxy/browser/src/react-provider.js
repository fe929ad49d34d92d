// react-provider.js is the part of react.js that needs no elements.

export { MISSING, StoreContext, UsageProvider, useUsage } from './react/provider.js';
