// Builds the page into dist/, from where the dashboard server serves it.
//
// The server's Content-Security-Policy allows nothing but its own files, so
// nothing may be inlined: no data: URLs for small assets, no inline preload
// polyfill. `npm run dev` forwards API calls to a running `sentinel serve`
// (SENTINEL_API overrides its address).
import react from "@vitejs/plugin-react";
import { loadEnv } from "vite";
import { defineConfig } from "vitest/config";

export default defineConfig(({ mode }) => {
  const env = loadEnv(mode, ".", "SENTINEL_");
  return {
    plugins: [react()],
    build: { outDir: "dist", assetsInlineLimit: 0, modulePreload: { polyfill: false } },
    server: { proxy: { "/api": env.SENTINEL_API ?? "http://127.0.0.1:8080" } },
    test: { environment: "happy-dom", setupFiles: ["src/test/setup.ts"], restoreMocks: true },
  };
});
