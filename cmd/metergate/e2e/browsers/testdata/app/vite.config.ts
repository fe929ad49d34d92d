import react from '@vitejs/plugin-react'
import { defineConfig } from 'vite'

// https://vite.dev/config/
export default defineConfig(({ mode }) => ({
  plugins: [react()],
  // The React of most apps that have not moved to 19 yet.
  resolve: { alias: mode === 'react18' ? { react: 'react18', 'react-dom': 'react-dom18' } : {} },
}))
