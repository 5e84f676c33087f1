/**
 * Read your own write: whatever program writes the order returns its transaction's id, and the page goes on when that very transaction
 * is in the replica. Nothing is guessed and nothing is shown that a rollback takes back.
 *
 *     node --conditions=@walcast/source examples/await-your-write/pay.ts ws://localhost:4437 postgresql://user@localhost:5432/database 7
 */
import { type Client, createClient } from "@walcast/client";
import pg from "pg";

interface Order {
  readonly id: number;
  readonly status: string;
}

/** As in your own server, which knows nothing of Walcast. Gives the xid that it answers the page with. */
export async function pay(database: pg.Pool, id: number): Promise<string> {
  const { rows } = await database.query<{ xid: string }>(
    "update orders set status = 'paid' where id = $1 returning pg_current_xact_id()::text as xid",
    [id],
  );
  if (rows[0]) return rows[0].xid;
  throw new Error(`there is no order ${id}`);
}

/** The order as the replica has it once the write has arrived. Rejects where its transaction was rolled back. */
export async function seePaid(client: Client, xid: string, id: number): Promise<Order | undefined> {
  await client.awaitPosition({ xid }, { timeoutMs: 5_000 });
  const [order] = await client.query<Order>("select id, status from orders where id = $1", [id]);
  return order;
}

if (import.meta.main) {
  const [url, databaseUrl, id] = process.argv.slice(2) as [string, string, string];
  const client = createClient({ url, shapes: { orders: { table: "orders", columns: ["id", "status"] } } });
  const database = new pg.Pool({ connectionString: databaseUrl });
  await client.preload();
  console.log(await seePaid(client, await pay(database, Number(id)), Number(id)));
  await Promise.all([client.close(), database.end()]);
}
