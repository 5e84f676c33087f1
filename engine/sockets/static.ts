/**
 * Static files for a page and its assets. The directory is listed once, so that a request can name only what is there:
 * no path is ever put together from what a client sent.
 */
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import type { HttpResponse } from "./uws.ts";

const contentTypes: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".json": "application/json",
  ".map": "application/json",
  ".svg": "image/svg+xml",
  ".png": "image/png",
  ".ico": "image/x-icon",
  ".woff2": "font/woff2",
  ".wasm": "application/wasm",
};

interface StaticFile {
  readonly path: string;
  readonly type: string;
  readonly caching: string;
}

export interface StaticFiles {
  /** False where there is no such file; then nothing was written. */
  serve(res: HttpResponse, url: string): boolean;
}

export function staticFiles(directory: string): StaticFiles {
  const files = new Map<string, StaticFile>();
  for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const file = path.join(entry.parentPath, entry.name);
    const url = `/${path.relative(directory, file).split(path.sep).join("/")}`;
    files.set(url, describe(file, url));
    if (entry.name === "index.html") files.set(url.slice(0, -"index.html".length), describe(file, url));
  }
  return { serve: (res, url) => serve(res, files.get(url)) };
}

function describe(file: string, url: string): StaticFile {
  // Bundlers put a hash of the content into the names under assets/.
  const caching = url.startsWith("/assets/") ? "public, max-age=31536000, immutable" : "no-cache";
  return { path: file, type: contentTypes[path.extname(file)] ?? "application/octet-stream", caching };
}

function serve(res: HttpResponse, file: StaticFile | undefined): boolean {
  const body = file && read(file.path);
  if (!file || !body) return false;
  res.cork(() => {
    res
      .writeStatus("200 OK")
      .writeHeader("Content-Type", file.type)
      .writeHeader("Cache-Control", file.caching)
      .end(body);
  });
  return true;
}

/** Undefined for one that was deleted since the directory was listed. */
function read(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}
