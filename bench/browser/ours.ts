/** The client, as an application has it: its replica is in a worker. */
import { createClient } from "../../client-sdk/index.ts";
import { digestOf } from "../first-sync/rows.ts";
import { byKeyOf, newestOf, type Successor, timed, timedEach } from "./contender.ts";

export function create(query: URLSearchParams): Successor {
  const table = query.get("table")!;
  const client = createClient({ url: query.get("server")!, replica: `opfs-ahp://${query.get("store")}` });
  const opened = client.query("select 1");
  const newest = newestOf(table);
  return {
    async firstRows() {
      const live = client.live(newest);
      client.sync({ table });
      await new Promise<void>((resolve) => live.subscribe((rows) => rows.length > 0 && resolve()));
      return performance.now();
    },
    async load() {
      await opened;
      return timed(() => client.sync({ table }).ready);
    },
    read: (keys) => timedEach(keys, (key) => client.query(byKeyOf(table), [key])),
    async digest() {
      const [row] = await client.query<{ digest: string }>(digestOf(table));
      return row!.digest;
    },
    async shows(note) {
      const live = client.live<{ note: string | null }>(newest);
      await new Promise<void>((resolve) =>
        live.subscribe((rows) => rows.some((row) => row.note === note) && resolve()),
      );
    },
    close: () => client.close(),
  };
}
