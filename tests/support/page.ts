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

export interface PageOptions {
  /** Holds `index.html`. */
  readonly root: URL;
  readonly define?: Record<string, string>;
  readonly plugins?: Plugin[];
  /** Of every answer. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Beside what is bundled: file by path. */
  readonly files?: Readonly<Record<string, string>>;
}

/** Returns the page's address. */
export async function servePage(
  t: Releasing,
  { root, define = {}, plugins = [], headers = {}, files = {} }: PageOptions,
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
    const file = files[path] ?? join(outDir, path === "/" ? "index.html" : path);
    for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
    // Their names say what is in them.
    if (path.startsWith("/assets/")) response.setHeader("cache-control", "public, max-age=31536000, immutable");
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
