// webpack.mjs OUT [ENTRY]: builds the app, or another, with webpack.
import path from 'node:path';
import webpack from 'webpack';

const config = {
  mode: 'production',
  entry: process.argv[3] ?? './src/main.tsx',
  output: { path: path.resolve(process.argv[2]), filename: 'main.js' },
  resolve: { extensions: ['.tsx', '.ts', '.js'] },
  performance: { hints: false },
  optimization: { minimize: false }, // it takes most of the time
  module: { rules: [{ test: /\.tsx?$/, loader: 'ts-loader', options: { transpileOnly: true } }] },
};

webpack(config, (error, stats) => {
  const text = error ?? stats.toString({ preset: 'errors-warnings' });
  if (text) console.error(text);
  process.exitCode = error || stats.hasErrors() || stats.hasWarnings() ? 1 : 0;
});
