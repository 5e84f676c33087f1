/** The orders in a collection of TanStack DB, in memory, with its own live queries; rows that come are written as a sync would. */
import { BTreeIndex, createCollection, createLiveQueryCollection, gt, type SyncConfig } from "@tanstack/db";
import { order } from "./orders.ts";

export interface OrderRow {
  readonly id: number;
  readonly customer_id: number;
  readonly status: string;
  readonly amount: number;
  readonly note: string;
  readonly created_at: Date;
}

type Sync = Parameters<SyncConfig<OrderRow, number>["sync"]>[0];
type Tell = (notes: readonly string[]) => void;

export class Collection {
  private readonly orders: ReturnType<typeof createOrders>;
  private readonly sync: Sync;
  private readonly closing: (() => Promise<void>)[] = [];

  private constructor(orders: ReturnType<typeof createOrders>, sync: Sync) {
    this.orders = orders;
    this.sync = sync;
  }

  static async open(rows: number): Promise<Collection> {
    const { promise: synced, resolve } = Promise.withResolvers<Sync>();
    const orders = createOrders(resolve);
    const preloaded = orders.preload();
    const sync = await synced;
    sync.begin();
    for (let id = 0; id < rows; id++) sync.write({ type: "insert", value: rowOf(order(id, "-")) });
    void sync.commit();
    sync.markReady();
    await preloaded;
    return new Collection(orders, sync);
  }

  /** `tell`: the notes of rows that a callback has. */
  async watchAll(tell: Tell): Promise<void> {
    await this.watch(
      createLiveQueryCollection((q) => q.from({ order: this.orders })),
      tell,
    );
  }

  async watchNewest(amount: number, limit: number, tell: Tell): Promise<void> {
    const newest = createLiveQueryCollection((q) =>
      q
        .from({ order: this.orders })
        .where(({ order }) => gt(order.amount, amount))
        .orderBy(({ order }) => order.created_at, "desc")
        .limit(limit),
    );
    await this.watch(newest, tell);
  }

  /** One transaction, as a sync brings it. */
  put(values: readonly (string | null)[]): void {
    this.sync.begin();
    this.sync.write({ type: "update", value: rowOf(values) });
    void this.sync.commit();
  }

  async close(): Promise<void> {
    for (const close of this.closing) await close();
    await this.orders.cleanup();
  }

  private async watch(query: LiveOrders, tell: Tell): Promise<void> {
    await query.preload();
    query.subscribeChanges((changes) => tell(changes.map(({ value }) => value.note)));
    this.closing.push(() => query.cleanup());
  }
}

interface LiveOrders {
  preload(): Promise<void>;
  subscribeChanges(listener: (changes: readonly { readonly value: OrderRow }[]) => void): unknown;
  cleanup(): Promise<void>;
}

function createOrders(synced: (sync: Sync) => void) {
  return createCollection<OrderRow, number>({
    getKey: ({ id }) => id,
    autoIndex: "eager",
    defaultIndexType: BTreeIndex,
    sync: { rowUpdateMode: "full", sync: synced },
  });
}

/** From the columns as text. */
function rowOf([id, customer, status, amount, note, createdAt]: readonly (string | null)[]): OrderRow {
  return {
    ...{ id: Number(id), customer_id: Number(customer), status: status!, amount: Number(amount), note: note! },
    created_at: new Date(createdAt!.replace(/\+00$/, "Z")),
  };
}
