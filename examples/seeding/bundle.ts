/** page.ts as one file for browsers, beside the WebAssembly of PGlite. Any bundler does; this is Vite. */
import { fileURLToPath } from "node:url";

export async function bundled(): Promise<string> {
  const { build, defaultClientConditions } = await import("vite");
  const outDir = fileURLToPath(new URL("dist", import.meta.url));
  const input = fileURLToPath(new URL("page.ts", import.meta.url));
  await build({
    configFile: false,
    logLevel: "error",
    // Here the client is taken from its sources; elsewhere this line is not needed.
    resolve: { conditions: ["@walcast/source", ...defaultClientConditions] },
    build: { outDir, target: "es2023", rolldownOptions: { input, output: { entryFileNames: "page.js" } } },
  });
  return outDir;
}
