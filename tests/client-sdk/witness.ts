/**
 * A process with a replica in a directory, to be killed: `witness.ts URL DIRECTORY`. Says every state that it shows, one
 * JSON text a line; the first is what it found when the replica was open.
 */
import { createClient } from "../../client-sdk/index.ts";

export interface State {
  /** Where the replica itself says its rows are. */
  readonly position: string;
  readonly orders: readonly number[];
  readonly items: readonly number[];
  readonly purses: readonly number[];
  readonly refetches: number;
}

// One query, one state: rows and position cannot be looked at apart.
const state = `
  SELECT (SELECT position::text FROM walcast.position) AS position,
    (SELECT coalesce(array_agg(id ORDER BY id), '{}') FROM orders) AS orders,
    (SELECT coalesce(array_agg(id ORDER BY id), '{}') FROM items) AS items,
    (SELECT coalesce(array_agg(balance ORDER BY id), '{}') FROM purses) AS purses`;

const [url, replica] = process.argv.slice(2);
const client = createClient({
  url: url!,
  replica: replica!,
  backoff: { baseMs: 1, maxMs: 20 },
  shapes: { orders: { table: "orders" }, items: { table: "items" }, purses: { table: "purses" } },
});
await client.preload();
const say = (shown: object): void => {
  process.stdout.write(`${JSON.stringify({ ...shown, refetches: client.inspect().refetches })}\n`);
};
say((await client.query(state))[0]!);
client.live<State>(state).subscribe(([shown]) => say(shown!));
