/**
 * A new replica begins with the files of an empty one that were prepared when this package was built: making them anew
 * (`initdb`) takes most of the time that PGlite needs to start. They are a third of what `initdb` makes, because nobody
 * creates databases from templates here; a browser stores and opens that much less. Where they are missing, or of
 * another Postgres than the PGlite that is installed, PGlite makes its own.
 */
import type * as NodeFileSystem from "node:fs";
import { PGlite } from "@electric-sql/pglite";

/** As much of Emscripten's `FS` as is needed. https://emscripten.org/docs/api_reference/Filesystem-API.html */
interface FileSystem {
  analyzePath(path: string): { readonly exists: boolean };
  mkdirTree(path: string): void;
  writeFile(path: string, bytes: Uint8Array): void;
}

let isTrusted = true;
let prepared: Promise<Uint8Array | undefined> | undefined;

/** There will be a new one: what it begins with is there by then, or sooner. */
export function expectEmpty(): void {
  if (isTrusted) prepared ??= fetchPrepared();
}

/** Unless there is something already. False where nothing is prepared. */
export async function beginEmpty(fs: FileSystem): Promise<boolean> {
  const root = PGlite.paths.PGDATA;
  if (fs.analyzePath(`${root}/PG_VERSION`).exists) return true;
  expectEmpty();
  const tar = isTrusted ? await prepared : undefined;
  if (!tar) return false;
  for (const { path, bytes } of entriesOf(tar)) {
    if (bytes) fs.writeFile(root + path, bytes);
    else fs.mkdirTree(root + path);
  }
  return true;
}

/** PGlite could not begin with it. */
export function distrust(): void {
  isTrusted = false;
}

/** For `loadDataDir`, in Node, where there is nothing yet. */
export function preparedFile(fs: typeof NodeFileSystem): Blob | undefined {
  const file = new URL("./empty.tar.gz", import.meta.url);
  return isTrusted && fs.existsSync(file) ? new Blob([fs.readFileSync(file)], { type: "application/gzip" }) : undefined;
}

async function fetchPrepared(): Promise<Uint8Array | undefined> {
  try {
    const found = await bytesOf(new URL("./empty.tar.gz", import.meta.url));
    // A server may unpack it on the way, or answer with a page of its own.
    const tar = found[0] === 0x1f && found[1] === 0x8b ? await unpacked(found) : found;
    return text(tar, 257, 5) === "ustar" ? tar : undefined;
  } catch {
    return undefined;
  }
}

async function bytesOf(url: URL): Promise<Uint8Array> {
  const builtin = (globalThis as { process?: Partial<NodeJS.Process> }).process?.getBuiltinModule;
  if (url.protocol === "file:" && builtin) return builtin("node:fs").readFileSync(url);
  return new Uint8Array(await (await fetch(url)).arrayBuffer());
}

async function unpacked(bytes: Uint8Array): Promise<Uint8Array> {
  const stream = new Blob([bytes.slice()]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** https://www.gnu.org/software/tar/manual/html_node/Standard.html */
function* entriesOf(tar: Uint8Array): Generator<{ readonly path: string; readonly bytes: Uint8Array | undefined }> {
  for (let at = 0; at < tar.length && tar[at] !== 0;) {
    const size = Number.parseInt(text(tar, at + 124, 12), 8) || 0;
    const isDirectory = text(tar, at + 156, 1) === "5";
    const path = text(tar, at, 100).replace(/^\/?/, "/").replace(/\/$/, "");
    // A copy: PGlite's files take it for their own, and one of them goes by the buffer beneath it.
    yield { path, bytes: isDirectory ? undefined : tar.slice(at + 512, at + 512 + size) };
    at += 512 + Math.ceil(size / 512) * 512;
  }
}

function text(bytes: Uint8Array, at: number, length: number): string {
  return new TextDecoder().decode(bytes.subarray(at, at + length)).replace(/\0.*$/s, "");
}
