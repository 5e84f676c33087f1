/** `node make-empty.ts FILE`: writes the files that a new replica begins with, for the PGlite that is installed. */
import { renameSync, writeFileSync } from "node:fs";
import { PGlite } from "@electric-sql/pglite";

const [file] = process.argv.slice(2);
if (!file) throw new Error("expected the name of a file to write");

// Short files of the write-ahead log, and no databases to make others from.
const pglite = await PGlite.create({ initDbStartParams: ["--wal-segsize=1"] });
await pglite.exec("UPDATE pg_database SET datistemplate = false");
for (const name of ["template0", "template1"]) await pglite.exec(`DROP DATABASE ${name}`);
await pglite.exec("CHECKPOINT");
await removeSpareLog();
// Under another name first: whoever finds it finds all of it.
const making = `${file}.${process.pid}`;
writeFileSync(making, await (await pglite.dumpDataDir("gzip")).bytes());
renameSync(making, file);
await pglite.close();

/** What is left of it is what a start reads: others were kept to be used again. */
async function removeSpareLog(): Promise<void> {
  const { rows } = await pglite.query<{ first: string; last: string }>(
    "SELECT redo_wal_file AS first, pg_walfile_name(pg_current_wal_insert_lsn()) AS last FROM pg_control_checkpoint()",
  );
  const { first, last } = rows[0]!;
  const directory = `${PGlite.paths.PGDATA}/pg_wal`;
  const fs = pglite.Module.FS;
  for (const name of fs.readdir(directory))
    if (/^[0-9A-F]{24}$/.test(name) && (name < first || name > last)) fs.unlink(`${directory}/${name}`);
}
