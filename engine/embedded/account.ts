/**
 * Under which account the embedded Postgres runs, and where that account can reach its files. Postgres refuses to run
 * as root (https://www.postgresql.org/docs/current/postgres-user.html), which is who runs things in containers and on
 * rented machines: there it runs as `nobody`, with its files moved to where `nobody` can go if need be.
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { chmod, chown, cp, mkdir, readdir, rename, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { WalcastError } from "../errors.ts";

/** Spread into spawn's options. Empty: ourselves. */
export type Account = { readonly uid: number; readonly gid: number } | Record<string, never>;

export function postgresAccount(): Account {
  if (process.getuid?.() !== 0) return {};
  return { uid: idOfNobody("-u"), gid: idOfNobody("-g") };
}

export async function ownerOf(path: string, account: Account): Promise<void> {
  if ("uid" in account) await chown(path, account.uid, account.gid);
}

/** The directory itself, or one under /var/lib in its name where the account cannot get there. Its parent exists. */
export async function reachableDirectory(
  wanted: string,
  account: Account,
  notice: (line: string) => void = () => undefined,
): Promise<string> {
  if (canReach(dirname(wanted), account)) return wanted;
  const parent = join(await sharedRoot(account), `data-${shortHash(wanted)}`);
  await mkdir(parent, { recursive: true });
  notice(`Postgres cannot run as root, and nobody else may enter ${dirname(wanted)}: its data is kept in ${parent}`);
  return join(parent, basename(wanted));
}

/** A copy of the programs that everybody may run. Made once per version: the path names it. */
export async function reachableCopy(native: string, account: Account): Promise<string> {
  const copy = join(await sharedRoot(account), `programs-${shortHash(native)}`);
  const making = `${copy}.${process.pid}`;
  await rm(making, { recursive: true, force: true });
  await cp(native, making, { recursive: true, verbatimSymlinks: true });
  await openToAll(making);
  await rm(copy, { recursive: true, force: true });
  await rename(making, copy);
  return copy;
}

function canReach(directory: string, account: Account): boolean {
  if (!("uid" in account)) return true;
  return spawnSync("/bin/sh", ["-c", 'cd "$0"', directory], { ...account, cwd: "/", stdio: "ignore" }).status === 0;
}

/** /var/lib outlives a restart of the machine; the temporary directory is for systems where it is read-only. */
async function sharedRoot(account: Account): Promise<string> {
  for (const root of ["/var/lib/walcast", join(tmpdir(), "walcast")]) {
    const ours = await mkdir(root, { recursive: true, mode: 0o755 }).then(
      () => isRoots(root),
      () => false,
    );
    if (ours && canReach(root, account)) return root;
  }
  throw new WalcastError(
    "config_invalid",
    "start an embedded Postgres as root: found no directory that an unprivileged account can enter; give --data-dir or --database-url",
  );
}

/** Anybody may put a directory in /tmp before us, with programs of their own in it. */
async function isRoots(directory: string): Promise<boolean> {
  const { uid } = await stat(directory);
  return uid === 0;
}

async function openToAll(directory: string): Promise<void> {
  await chmod(directory, 0o755);
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) await openToAll(path);
    else if (entry.isFile()) await chmod(path, 0o755);
  }
}

function idOfNobody(flag: "-u" | "-g"): number {
  const { stdout } = spawnSync("id", [flag, "nobody"], { encoding: "utf8" });
  const id = Number.parseInt(stdout ?? "", 10);
  if (!Number.isInteger(id))
    throw new WalcastError(
      "config_invalid",
      "start an embedded Postgres as root: there is no account `nobody` to run it as; run as another user, or give --database-url",
    );
  return id;
}

function shortHash(path: string): string {
  return createHash("sha256").update(path).digest("hex").slice(0, 12);
}
