/** A page for a browser, bundled from its sources, on a server of its own. */
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build, defaultClientConditions, type Plugin } from "vite";
import type { Releasing } from "./postgres.ts";

const types: Record<string, string> = { ".html": "text/html", ".js": "text/javascript", ".wasm": "application/wasm" };

/** `root` holds `index.html`. Returns the page's address. */
export async function servePage(
  t: Releasing,
  { root, define = {}, plugins = [] }: { root: URL; define?: Record<string, string>; plugins?: Plugin[] },
): Promise<string> {
  const outDir = await mkdtemp(join(tmpdir(), "walcast-page-"));
  t.after(() => rm(outDir, { recursive: true, force: true }));
  await build({
    root: fileURLToPath(root),
    configFile: false,
    logLevel: "error",
    plugins,
    define,
    resolve: { conditions: ["@walcast/source", ...defaultClientConditions] },
    worker: { format: "es" },
    build: { outDir, target: "es2023", minify: false, chunkSizeWarningLimit: 5_000 },
  });
  const server = createServer((request, response) => {
    const path = new URL(request.url!, "http://localhost").pathname;
    const file = join(outDir, path === "/" ? "index.html" : path);
    response.setHeader("content-type", types[extname(file)] ?? "application/octet-stream");
    readFile(file).then(
      (bytes) => response.end(bytes),
      () => response.writeHead(204).end(),
    );
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(async () => void server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
