/** PGlite's own worker, `PGliteWorker`, with the same rows. */
import { PGliteWorker } from "@electric-sql/pglite/worker";
import { addKey, createTable, digestOf } from "../first-sync/rows.ts";
import { rowsOf } from "./bare.ts";
import { byKeyOf, type Contender, newestOf, timed, timedEach } from "./contender.ts";

export function create(query: URLSearchParams): Contender {
  const table = query.get("table")!;
  const worker = new Worker(new URL("./peer-worker.ts", import.meta.url), { type: "module" });
  const dataDir = `opfs-ahp://${query.get("store")}`;
  const opened = PGliteWorker.create(worker, { dataDir, id: dataDir, meta: query.has("prepared") });
  return {
    async firstRows() {
      await (await opened).query(newestOf(table));
      return performance.now();
    },
    async load() {
      const pglite = await opened;
      await pglite.exec(`set timezone = 'UTC'; ${createTable(table)}`);
      const blob = new Blob([await rowsOf(table)]);
      return timed(async () => {
        await pglite.query(`copy ${table} from '/dev/blob'`, [], { blob });
        await pglite.exec(addKey(table));
      });
    },
    async read(keys) {
      const pglite = await opened;
      return timedEach(keys, (key) => pglite.query(byKeyOf(table), [key]));
    },
    async digest() {
      const found = await (await opened).query<{ digest: string }>(digestOf(table));
      return found.rows[0]!.digest;
    },
    async close() {
      await (await opened).close();
      worker.terminate();
    },
  };
}
