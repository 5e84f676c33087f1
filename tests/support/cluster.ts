/**
 * Data directories with a cluster in them that nobody has used yet. initdb takes longer than most tests: so it runs once for
 * each major, what it made is kept among the machine's temporary files, and all others are copies of that. So they have one
 * system identifier; who needs two histories makes the second anew.
 */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { chmod, mkdtemp, readdir, rename, rm, statfs } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { startPostgres } from "../../engine/embedded/postgres.ts";
import { postgresMajor, programsOfMajor } from "../versions/programs.ts";

/** To be removed by who asked for it. The unprivileged account may enter it where we are root. */
export async function emptyCluster(): Promise<string> {
  const kept = join(tmpdir(), `walcast-tests-cluster-${postgresMajor()}`);
  if (!existsSync(kept)) await make(kept);
  const directory = await scratchDirectory(await quickestRoot());
  // What Node copies would belong to us.
  await promisify(execFile)("cp", ["-a", join(kept, "postgres"), directory]);
  return directory;
}

/** In another place first: several processes may make it at once, and none may find a half of it. */
async function make(kept: string): Promise<void> {
  const dataDir = await scratchDirectory(tmpdir());
  await (await startPostgres({ dataDir, ...programsOfMajor() })).stop();
  await rename(dataDir, kept).catch(() => rm(dataDir, { recursive: true }));
}

const memory = "/dev/shm";
// What a run has at most, twice: another may be going on.
const roomNeeded = 4e9;

/** Files in memory where Linux has room for them: a database is some three hundred, and made ten times faster there. */
async function quickestRoot(): Promise<string> {
  const { bavail, bsize } = await statfs(memory).catch(() => ({ bavail: 0, bsize: 0 }));
  return bavail * bsize < roomNeeded ? tmpdir() : memory;
}

async function scratchDirectory(root: string): Promise<string> {
  const directory = await mkdtemp(join(root, `walcast-test-${process.pid}-`));
  await chmod(directory, 0o755);
  return directory;
}

/** A process that was killed cannot tidy up, and memory is not emptied by itself. What its Postgres is still at stays for the next run. */
export async function removeLeftovers(): Promise<void> {
  const names = await readdir(memory).catch(() => []);
  for (const name of names) {
    const [, pid] = /^walcast-test-(\d+)-/.exec(name) ?? [];
    if (pid !== undefined && !existsSync(`/proc/${pid}`))
      await rm(join(memory, name), { recursive: true, force: true }).catch(() => {});
  }
}
