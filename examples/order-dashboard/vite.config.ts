/** How the page becomes static files. Run by server/build.ts, or by Vite itself for those who work on the page. */
import { fileURLToPath } from "node:url";
import react from "@vitejs/plugin-react";
import { defaultClientConditions, defineConfig } from "vite";

export default defineConfig({
  root: fileURLToPath(new URL(".", import.meta.url)),
  plugins: [react()],
  // The client is taken from its TypeScript sources, as everywhere in this repository.
  resolve: { conditions: ["@walcast/source", ...defaultClientConditions] },
  // Pre-bundling would separate PGlite from the WebAssembly files it finds beside itself.
  optimizeDeps: { exclude: ["@electric-sql/pglite"] },
  build: {
    target: "es2023",
    // PGlite is half a megabyte of JavaScript and there is no page without it: nothing to split.
    chunkSizeWarningLimit: 2_000,
  },
  server: { proxy: { "/api": "http://localhost:4437", "/v1": { target: "http://localhost:4437", ws: true } } },
});
