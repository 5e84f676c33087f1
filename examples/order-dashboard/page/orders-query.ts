/**
 * The orders the table shows, as queries on the replica: a join, two subqueries and a search, the same as they would
 * be on Postgres, because it is one.
 */
import { type Expression, type ExpressionBuilder, type Kysely, sql, type SqlBool } from "kysely";
import type { Status } from "../statuses.ts";
import type { Shop } from "./client.ts";

export interface OrderFilter {
  /** Words that all have to occur: in the number, the customer, the city, the status or a product. */
  readonly search: string;
  readonly status: Status | undefined;
}

export interface OrderRow {
  readonly id: number;
  readonly status: Status;
  readonly amount: string;
  readonly created_at: Date;
  readonly customer: string;
  readonly city: string;
  readonly pieces: number;
  readonly product: string | null;
}

export function newestOrders(db: Kysely<Shop>, filter: OrderFilter, limit: number) {
  return matching(db, filter)
    .select(["o.id", "o.status", "o.amount", "o.created_at", "c.name as customer", "c.city"])
    .select(sql<number>`(SELECT coalesce(sum(quantity), 0)::int FROM order_items WHERE order_id = o.id)`.as("pieces"))
    .select(
      sql<
        string | null
      >`(SELECT p.name FROM order_items i JOIN products p ON p.id = i.product_id WHERE i.order_id = o.id ORDER BY i.line LIMIT 1)`.as(
        "product",
      ),
    )
    .orderBy("o.id", "desc")
    .limit(limit);
}

/** Without a search there is nothing to join for. */
export function countOrders(db: Kysely<Shop>, filter: OrderFilter) {
  const count = sql<number>`count(*)::int`.as("orders");
  if (!filter.search)
    return db
      .selectFrom("orders")
      .select(count)
      .$if(filter.status !== undefined, (query) => query.where("status", "=", filter.status!));
  return matching(db, filter).select(count);
}

function matching(db: Kysely<Shop>, { search, status }: OrderFilter) {
  let query = db.selectFrom("orders as o").innerJoin("customers as c", "c.id", "o.customer_id");
  if (status) query = query.where("o.status", "=", status);
  for (const word of search.split(/\s+/).filter(Boolean)) query = query.where((eb) => occurs(eb, word));
  return query;
}

type Joined = Shop & { o: Shop["orders"]; c: Shop["customers"] };

function occurs(eb: ExpressionBuilder<Joined, "o" | "c">, word: string): Expression<SqlBool> {
  const pattern = `%${word.replace(/[\\%_]/g, "\\$&")}%`;
  const number = /^#?(\d{1,9})$/.exec(word)?.[1];
  return eb.or([
    eb("c.name", "ilike", pattern),
    eb("c.city", "ilike", pattern),
    eb("o.status", "ilike", pattern as Status),
    sql<SqlBool>`o.id IN (SELECT i.order_id FROM order_items i JOIN products p ON p.id = i.product_id WHERE p.name ILIKE ${pattern})`,
    ...(number === undefined ? [] : [sql<SqlBool>`o.id::text LIKE ${`${number}%`}`]),
  ]);
}
