/**
 * A shape read by the client of another protocol, as it is: Durable Streams' `createStreamDB` keeps a TanStack DB collection of
 * it, which follows every commit.
 *
 *     node examples/durable-streams/orders.ts http://localhost:4437
 */
import { createStateSchema, createStreamDB } from "@durable-streams/state/db";

interface Order {
  readonly id: string;
  readonly status: string;
}

/** https://standardschema.dev, of which this one checks nothing: take your own. */
const schema = {
  "~standard": { version: 1 as const, vendor: "example", validate: (value: unknown) => ({ value: value as Order }) },
};

/** Calls `show` with the orders' lines, at first and after every commit that changes them. Returns what ends it. */
export async function follow(engine: string, show: (lines: readonly string[]) => void): Promise<() => void> {
  const db = createStreamDB({
    streamOptions: {
      url: `${engine}/v1/stream/orders?columns=id,status`,
      contentType: "application/json",
      warnOnHttp: false,
    },
    state: createStateSchema({ orders: { schema, type: "orders", primaryKey: "id" } }),
    live: "sse",
  });
  await db.preload();
  const { orders } = db.collections;
  const showAll = (): void => show(orders.toArray.map(({ id, status }) => `${id}: ${status}`).toSorted());
  orders.subscribeChanges(showAll);
  showAll();
  return () => db.close();
}

if (import.meta.main)
  await follow(process.argv[2] ?? "http://localhost:4437", (lines) => console.log(lines.join("\n")));
