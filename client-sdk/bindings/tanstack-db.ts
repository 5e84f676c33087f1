/**
 * `@walcast/client/tanstack-db`: a shape as a TanStack DB collection, for applications that query with that.
 *
 *     const orders = createCollection(walcastCollectionOptions<Order>({ client, shape: "orders" }));
 *     const open = createLiveQueryCollection((q) => q.from({ orders }).where(({ orders }) => eq(orders.status, "new")));
 *
 * Each local transaction of the replica is one of the collection's, begun, written and committed in one go: no query on the
 * collection shows part of a commit. Collections are told one after another, so a query that joins two of them may run
 * between. Rows change through Postgres: inserting into the collection is refused by TanStack DB, which has no handler for it.
 */
import type { BaseCollectionConfig, SyncConfig } from "@tanstack/db";
import type { AnyClient } from "../stores.ts";
import { type Client, type Delta, type LiveQuery, type Shape, type ShapeOptions, WalcastError } from "../index.ts";

export type CollectionKey = string | number;

export interface WalcastCollectionConfig<Row extends object, Key extends CollectionKey = CollectionKey> extends Pick<
  BaseCollectionConfig<Row, Key>,
  "id" | "gcTime" | "startSync" | "autoIndex" | "defaultIndexType" | "compare"
> {
  /** Created and closed by the application. */
  readonly client: AnyClient;
  /** A declared shape by name, or one that is synchronised while the collection is. Its `where` reads columns that it has. */
  readonly shape: string | ShapeOptions;
  /** Default: the primary key, as it is where it is a text or a number, else as JSON. */
  readonly getKey?: (row: Row) => Key;
}

export interface WalcastCollectionOptions<Row extends object, Key extends CollectionKey> extends BaseCollectionConfig<
  Row,
  Key
> {
  readonly sync: SyncConfig<Row, Key>;
}

/** For `createCollection`. `preload()` of the collection rejects with the shape's WalcastError. */
export function walcastCollectionOptions<
  Row extends object = Record<string, unknown>,
  Key extends CollectionKey = CollectionKey,
>({ client, shape, getKey, ...rest }: WalcastCollectionConfig<Row, Key>): WalcastCollectionOptions<Row, Key> {
  const key = new PrimaryKey();
  return {
    ...rest,
    getKey: getKey ?? ((row) => key.of(row) as Key),
    sync: { rowUpdateMode: "full", sync: (collection) => follow(client as Client, shape, key, collection) },
  };
}

type Collection<Row extends object, Key extends CollectionKey> = Parameters<SyncConfig<Row, Key>["sync"]>[0];

/** Returns what ends it. */
function follow<Row extends object, Key extends CollectionKey>(
  client: Client,
  wanted: string | ShapeOptions,
  key: PrimaryKey,
  collection: Collection<Row, Key>,
): () => void {
  const shape = shapeOf(client, wanted);
  const fail = (error: unknown): void => collection.markError(error);
  let live: LiveQuery<Row> | undefined;
  let isOver = false;
  const begin = async (): Promise<void> => {
    const { table, key: columns } = await shape.describe();
    if (isOver) return;
    key.columns = columns;
    const { where, params = [] } = shape.request;
    live = client.live<Row>(`SELECT * FROM ${table}${where === undefined ? "" : ` WHERE ${where}`}`, params);
    live.subscribe((_rows, delta) => write(collection, delta));
    await live.ready;
    collection.markReady();
  };
  begin().catch((error: unknown) => !isOver && fail(error));
  return () => {
    isOver = true;
    live?.close();
    if (typeof wanted !== "string") shape.unsubscribe().catch(() => {});
  };
}

function write<Row extends object, Key extends CollectionKey>(
  { begin, write, commit }: Collection<Row, Key>,
  { deleted, updated, inserted }: Delta<Row>,
): void {
  begin();
  for (const value of deleted) write({ type: "delete", value });
  for (const value of updated) write({ type: "update", value });
  for (const value of inserted) write({ type: "insert", value });
  void commit();
}

function shapeOf(client: Client, wanted: string | ShapeOptions): Shape {
  if (typeof wanted !== "string") return client.sync(wanted);
  const shape = client.shapes[wanted];
  if (shape) return shape;
  const found = JSON.stringify(wanted);
  throw new WalcastError(
    "config_invalid",
    `fill a collection: expected a shape that the client declares, found ${found}`,
  );
}

/** Known once the shape is; TanStack DB asks for no key before there are rows. */
class PrimaryKey {
  columns: readonly string[] = [];

  of(row: object): CollectionKey {
    const values = this.columns.map((column) => (row as Record<string, unknown>)[column]);
    const [only] = values;
    const isPlain = values.length === 1 && (typeof only === "string" || typeof only === "number");
    return isPlain ? only : JSON.stringify(values.map(plain));
  }
}

function plain(value: unknown): unknown {
  return typeof value === "bigint" ? String(value) : value;
}
