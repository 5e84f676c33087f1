/**
 * The shop in Postgres: its tables and its past, made in one transaction on the first run and left alone afterwards.
 * An interrupted first run leaves nothing behind, and the next one starts afresh.
 */
import { readFile } from "node:fs/promises";
import type { Client, Pool } from "pg";
import { makeShop, type Shop } from "./seed.ts";

/** Always the same shop; another number gives another one. */
const seed = 20_240_229;

/** Resolves to the number of orders that were made: 0 where the shop was there already. */
export async function createShop(pool: Pool): Promise<number> {
  const client = await pool.connect();
  try {
    await client.query("BEGIN");
    const created = (await isThere(client)) ? 0 : await create(client);
    await client.query(await source("place-order.sql"));
    await client.query("COMMIT");
    return created;
  } catch (error) {
    await client.query("ROLLBACK");
    throw error;
  } finally {
    client.release();
  }
}

type Session = Pick<Client, "query">;

async function isThere(session: Session): Promise<boolean> {
  const { rows } = await session.query<{ there: boolean }>("SELECT to_regclass('public.orders') IS NOT NULL AS there");
  return rows[0]!.there;
}

async function create(session: Session): Promise<number> {
  await session.query(await source("schema.sql"));
  const shop = makeShop(seed, new Date());
  await insert(
    session,
    "customers",
    { id: "int", name: "text", email: "text", city: "text", country: "text" },
    shop.customers,
  );
  await insert(session, "products", { id: "int", name: "text", category: "text", price: "numeric" }, shop.products);
  await insert(
    session,
    "orders",
    { id: "int", customer_id: "int", status: "text", amount: "numeric", created_at: "timestamptz" },
    shop.orders,
  );
  await insert(
    session,
    "order_items",
    { order_id: "int", line: "int", product_id: "int", quantity: "int", unit_price: "numeric" },
    shop.order_items,
  );
  await continueIds(session);
  // The engine's estimate of a table's rows, and so the pages' progress bars, come from the planner's statistics.
  await session.query("ANALYZE");
  return shop.orders.length;
}

function source(name: string): Promise<string> {
  return readFile(new URL(name, import.meta.url), "utf8");
}

/** One statement for all rows: each column travels as one array. */
async function insert(
  session: Session,
  table: keyof Shop,
  types: Readonly<Record<string, string>>,
  rows: readonly object[],
): Promise<void> {
  const columns = Object.keys(types);
  const arrays = columns.map((column, i) => `$${i + 1}::${types[column]}[]`);
  const values = columns.map((column) => rows.map((row) => (row as Record<string, unknown>)[column]));
  await session.query(
    `INSERT INTO ${table} (${columns.join(", ")}) SELECT * FROM unnest(${arrays.join(", ")})`,
    values,
  );
}

/** Rows with ids of their own leave the sequences behind them at 1. */
async function continueIds(session: Session): Promise<void> {
  for (const table of ["customers", "products", "orders"]) {
    await session.query(`SELECT setval(pg_get_serial_sequence('${table}', 'id'), max(id)) FROM ${table}`);
  }
}
