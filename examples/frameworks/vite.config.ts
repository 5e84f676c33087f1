import { fileURLToPath } from "node:url";
import { compile } from "svelte/compiler";
import { defaultClientConditions, defineConfig, type Plugin } from "vite";

/** Compiles what ends in .svelte, as `@sveltejs/vite-plugin-svelte` does with more comfort. */
export const svelte: Plugin = {
  name: "svelte",
  transform: (code, id) =>
    id.endsWith(".svelte") ? compile(code, { filename: id, generate: "client", dev: false }).js : undefined,
};

export default defineConfig({
  root: fileURLToPath(new URL(".", import.meta.url)),
  plugins: [svelte],
  // Here the client is taken from its sources; elsewhere this line is not needed.
  resolve: { conditions: ["@walcast/source", ...defaultClientConditions] },
  // Pre-bundling would separate PGlite from the WebAssembly files it finds beside itself.
  optimizeDeps: { exclude: ["@electric-sql/pglite"] },
});
