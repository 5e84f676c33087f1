/**
 * Live queries for renders that wait. A render that suspends is thrown away with everything it made, so the query that it
 * began is kept here, by client and text, until a render that finds it complete has been mounted and holds it.
 */
import type { AnyDatabase, Client, LiveQuery, Queryable } from "../index.ts";
import { comparable, liveStore, type LiveResult, type Store } from "../stores.ts";

/** How long a query that is complete waits for somebody to mount. */
const MOUNT_MS_MAX = 10_000;

export interface Begun<Row> {
  readonly store: Store<LiveResult<Row>>;
  /** Settles with the first complete result, the error, or the end of the client. */
  readonly settled: Promise<void>;
  isSettled: boolean;
}

const begunByClient = new WeakMap<object, Map<string, Begun<object>>>();

/** The one that was begun, or else one that begins now. */
export function begin<Row extends object, Database = AnyDatabase>(
  client: Client<Database>,
  query: Queryable<Database, Row>,
  params: readonly unknown[],
): Begun<Row> {
  const begun = begunByClient.get(client) ?? new Map<string, Begun<object>>();
  begunByClient.set(client, begun);
  const key = keyOf(client, query, params);
  const found = begun.get(key) ?? start(client.live.bind(client, query, params), () => void begun.delete(key));
  begun.set(key, found);
  return found as unknown as Begun<Row>;
}

function start<Row>(live: () => LiveQuery<Row>, forget: () => void): Begun<Row> {
  const { promise: settled, resolve } = Promise.withResolvers<void>();
  const store = liveStore(() => {
    const query = live();
    query.ready.then(
      () => resolve(),
      () => resolve(),
    );
    return query;
  });
  const letGo = store.subscribe(() => {});
  const begun: Begun<Row> = { store, settled, isSettled: false };
  const settle = (): void => {
    begun.isSettled = true;
    setTimeout(() => {
      forget();
      letGo();
    }, MOUNT_MS_MAX);
  };
  void settled.then(settle);
  return begun;
}

function keyOf<Row, Database>(
  client: Client<Database>,
  query: Queryable<Database, Row>,
  params: readonly unknown[],
): string {
  if (typeof query === "string") return String(comparable([query, params]));
  const { sql, parameters } = query(client.kysely).compile();
  return String(comparable([sql, parameters]));
}
