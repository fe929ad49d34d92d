import type { NextConfig } from 'next';

const webpack = process.argv.includes('--webpack');

const nextConfig: NextConfig = {
  output: 'export',
  distDir: webpack ? 'dist-next-webpack' : 'dist-next-turbopack',
  // The test checks the types by itself. Once is enough, unless there is time.
  typescript: { tsconfigPath: 'tsconfig.next.json', ignoreBuildErrors: !webpack },
};

export default nextConfig;
