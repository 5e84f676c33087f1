/**
 * Empty replicas. PGlite takes seconds to make one from nothing, and a third of that to begin with the files of another: so
 * one is made for each version of PGlite, kept among the machine's temporary files, and all others are its copies.
 */
import { execFile } from "node:child_process";
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { PGlite } from "@electric-sql/pglite";

/** To be closed by who asked for it: an open one keeps its process from ending. */
export async function emptyReplica(): Promise<PGlite> {
  return PGlite.create(await empty());
}

/** For `new PGlite`, where nobody can wait. Files are read at once: tests look at what is still under way in their process. */
export async function empty(): Promise<{ readonly dataDir: string; readonly loadDataDir: Blob }> {
  return { dataDir: "memory://", loadDataDir: new Blob([readFileSync(await kept())]) };
}

/** For a process that will open it. */
export async function emptyReplicaIn(directory: string): Promise<void> {
  await mkdir(directory);
  // Its names begin with a slash, of which tar says that it leaves it out.
  await promisify(execFile)("tar", ["-xf", await kept(), "-C", directory]);
}

async function kept(): Promise<string> {
  const file = join(tmpdir(), `walcast-tests-small-replica-${version()}.tar`);
  if (!existsSync(file)) await make(file);
  return file;
}

function version(): string {
  const manifest = new URL("../package.json", import.meta.resolve("@electric-sql/pglite"));
  return (JSON.parse(readFileSync(manifest, "utf8")) as { version: string }).version;
}

/**
 * Under another name first: several processes may make it at once, and none may find a half of it. What is copied so often is
 * small: no databases to make others from, short files of its log, and buffers that need not be cleared at each start.
 */
async function make(file: string): Promise<void> {
  const pglite = await PGlite.create({ initDbStartParams: ["--wal-segsize=1", "-c", "shared_buffers=16MB"] });
  await pglite.exec("UPDATE pg_database SET datistemplate = false");
  for (const name of ["template0", "template1"]) await pglite.exec(`DROP DATABASE ${name}`);
  const making = `${file}.${process.pid}`;
  writeFileSync(making, await (await pglite.dumpDataDir("none")).bytes());
  await pglite.close();
  renameSync(making, file);
}
