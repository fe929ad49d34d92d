// rspack.mjs OUT [ENTRY]: builds the app, or another, with Rspack.
import path from 'node:path';
import { rspack } from '@rspack/core';

const swc = { jsc: { parser: { syntax: 'typescript', tsx: true }, transform: { react: { runtime: 'automatic' } } } };
const config = {
  mode: 'production',
  entry: process.argv[3] ?? './src/main.tsx',
  output: { path: path.resolve(process.argv[2]), filename: 'main.js' },
  resolve: { extensions: ['.tsx', '.ts', '.js'] },
  performance: { hints: false },
  module: { rules: [{ test: /\.tsx?$/, loader: 'builtin:swc-loader', options: swc }] },
};

rspack(config, (error, stats) => {
  const text = error ?? stats.toString({ preset: 'errors-warnings' });
  if (text) console.error(text);
  process.exitCode = error || stats.hasErrors() || stats.hasWarnings() ? 1 : 0;
});
