/**
 * A replica's directory, in Node: one process at a time, since two would destroy it. Node's modules are asked for at run time only: the same code runs in browsers.
 */
import type * as FileSystem from "node:fs";
import type * as Path from "node:path";
import { WalcastError } from "../engine/protocol.ts";
import { Lock } from "./lock.ts";

export class Directory {
  readonly path: string;
  readonly fs: typeof FileSystem;
  private readonly lock: Lock;

  /** Takes it for this process. Throws `config_invalid`. */
  constructor(text: string) {
    const { fs, path } = nodeModules(text);
    this.fs = fs;
    this.path = path.resolve(text);
    fs.mkdirSync(path.dirname(this.path), { recursive: true });
    const lock = `${this.path}.lock`;
    this.lock = new Lock(lock, fs);
    const holder = this.lock.take();
    if (holder !== undefined) throw inUse(this.path, lock, holder);
  }

  release(): void {
    this.lock.release();
  }
}

function nodeModules(text: string): { fs: typeof FileSystem; path: typeof Path } {
  const builtin = (globalThis as { process?: Partial<NodeJS.Process> }).process?.getBuiltinModule;
  if (!builtin)
    throw new WalcastError(
      "config_invalid",
      `create a client: expected a replica that is possible here, found the directory ${JSON.stringify(text)}`,
      { hint: 'A directory can be one in Node 20.16 or later. In a browser, take "opfs-ahp://name" or "idb://name".' },
    );
  return { fs: builtin("node:fs"), path: builtin("node:path") };
}

function inUse(path: string, lock: string, holder: number): WalcastError {
  return new WalcastError(
    "config_invalid",
    `open a replica: expected ${path} to be this client's alone, found process ${holder} using it`,
    { hint: `If that process is none of ours, remove ${lock}.` },
  );
}
