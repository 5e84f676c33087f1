/**
 * TanStack DB on a shape: the collection is filled and kept current by Walcast, and a live query of TanStack's own follows it.
 * Beside `npm start`:
 *
 *     node examples/tanstack-db/new-orders.ts ws://localhost:4437
 */
import { BTreeIndex, createCollection, createLiveQueryCollection, eq } from "@tanstack/db";
import { type Client, createClient } from "@walcast/client";
import { walcastCollectionOptions } from "@walcast/client/tanstack-db";

interface Order {
  readonly id: number;
  readonly status: string;
}

/** TanStack DB makes the indexes that its queries need. */
const indexed = { autoIndex: "eager", defaultIndexType: BTreeIndex } as const;

/** Shows the ids of new orders, at first and after every commit that changes them. Returns what ends it. */
export async function follow(client: Client, show: (ids: readonly number[]) => void): Promise<() => Promise<void>> {
  const orders = createCollection(walcastCollectionOptions<Order>({ client, shape: { table: "orders" }, ...indexed }));
  const fresh = createLiveQueryCollection((q) =>
    q
      .from({ order: orders })
      .where(({ order }) => eq(order.status, "new"))
      .orderBy(({ order }) => order.id, "desc")
      .limit(10),
  );
  await fresh.preload();
  const showAll = (): void => show(fresh.toArray.map(({ id }) => id));
  fresh.subscribeChanges(showAll);
  showAll();
  return async () => {
    await fresh.cleanup();
    await orders.cleanup();
  };
}

if (import.meta.main) {
  const client = createClient({ url: process.argv[2] ?? "ws://localhost:4437" });
  const stop = await follow(client, (ids) => console.log(`new: ${ids.join(", ")}`));
  process.once("SIGINT", () => void stop().then(() => client.close()));
}
