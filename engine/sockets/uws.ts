/**
 * The only importer of uWebSockets.js, and what makes it load on systems with an older glibc. Where requiring it works,
 * that is all that happens here. Where the loader refuses for want of GLIBC_2.38 alone, a mended private copy (elf.ts)
 * is loaded in its place.
 */
import { createHash } from "node:crypto";
import { chmodSync, lstatSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { homedir, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { WalcastError } from "../errors.ts";
import { mendGlibcNeed } from "./elf.ts";

export type {
  HttpRequest,
  HttpResponse,
  TemplatedApp,
  us_listen_socket as ListenSocket,
  us_socket_context_t as SocketContext,
  WebSocket,
} from "uWebSockets.js";

export type Uws = typeof import("uWebSockets.js");

const require = createRequire(import.meta.url);

export const uws: Uws = loadUws();

function loadUws(): Uws {
  try {
    return require("uWebSockets.js") as Uws;
  } catch (error) {
    if (!needsNewerGlibc(error)) throw cannotLoad(error);
    return loadMended();
  }
}

/** Exported for its test: what the loader says is the only way to know why it refused. */
export function needsNewerGlibc(error: unknown): boolean {
  return error instanceof Error && /version [`']GLIBC_2\.38' not found/.test(error.message);
}

/** The package's own file requires the library by this path, so that once it is in the cache, the rest is as usual. */
function loadMended(): Uws {
  const path = libraryPath();
  const module = { exports: {} };
  try {
    process.dlopen(module, privateCopy(mendGlibcNeed(readFileSync(path))));
  } catch (error) {
    throw cannotLoad(error);
  }
  require.cache[path] = Object.assign(Object.create(null) as NodeJS.Module, {
    id: path,
    filename: path,
    loaded: true,
    children: [],
    ...module,
  });
  return require("uWebSockets.js") as Uws;
}

function libraryPath(): string {
  const name = `uws_${process.platform}_${process.arch}_${process.versions.modules}.node`;
  return join(dirname(require.resolve("uWebSockets.js")), name);
}

/**
 * Named by its content and moved into place whole, in a directory that nobody else can write to: what we load must be
 * what we made. It is compared again each time, as it may lie there for years.
 */
export function privateCopy(library: Uint8Array, directory: string = cacheDirectory()): string {
  const path = join(directory, `uws-${createHash("sha256").update(library).digest("hex")}.node`);
  if (holds(path, library)) return path;
  const making = `${path}.${process.pid}`;
  rmSync(making, { force: true });
  writeFileSync(making, library, { mode: 0o500, flag: "wx" });
  renameSync(making, path);
  return path;
}

function holds(path: string, library: Uint8Array): boolean {
  try {
    return readFileSync(path).equals(library);
  } catch {
    return false;
  }
}

function cacheDirectory(): string {
  const caches = [
    process.env.XDG_CACHE_HOME || join(homedir(), ".cache"),
    join(tmpdir(), `walcast-cache-${process.getuid?.() ?? "user"}`),
  ];
  const usable = caches.map((cache) => join(cache, "walcast")).find(isPrivate);
  if (!usable)
    throw new WalcastError(
      "config_invalid",
      "load the WebSocket library: found no private directory to keep a copy in; set XDG_CACHE_HOME to one",
    );
  return usable;
}

/** Ours, and nobody else may write: another account's directory, or one reached through its link, is not used. */
function isPrivate(directory: string): boolean {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const found = lstatSync(directory);
    if (found.uid !== process.getuid?.() || !found.isDirectory()) return false;
    chmodSync(directory, 0o700);
    return true;
  } catch {
    return false;
  }
}

function cannotLoad(cause: unknown): WalcastError {
  const reason = String(cause)
    .split("\n")
    .findLast((line) => line.trim() !== "");
  const mend = "Walcast needs Node 24 on macOS, Windows or a Linux with glibc 2.36 or newer (Debian 12, Ubuntu 24.04)";
  return new WalcastError("config_invalid", `load the WebSocket library: ${reason}. ${mend}`, { cause });
}
