// react.js: the user's usage in React 18 and 19.
//
//   import { UsageProvider, useUsage } from '@metergate/client/react';
//
//   <UsageProvider baseUrl="https://gateway.example.com" getToken={getToken}>...</UsageProvider>
//   const { usage, problem, client, canSend, connection } = useUsage();
//
// <UsageMeter>, <UsageChart> and <UpgradeDialog> show the elements <usage-meter>, <usage-chart> and
// <usage-upgrade>. An app that does not use one of them does not load it. On a server nothing is known, and nothing is requested. react.d.ts has the types.

'use client';

export { UsageProvider, useUsage } from './react-provider.js';
export { UpgradeDialog } from './react-upgrade.js';
export { UsageChart } from './react-chart.js';
export { UsageMeter } from './react-meter.js';
