/** A report that the server computes and the page fetches, as reports are: it is not kept current, it is asked for again. */
import type { Pool } from "pg";

export interface Bestseller {
  readonly product: string;
  readonly pieces: number;
  readonly revenue: number;
}

export async function bestsellers(pool: Pool): Promise<readonly Bestseller[]> {
  const { rows } = await pool.query<Bestseller>(`
    SELECT p.name AS product, sum(i.quantity)::int AS pieces, sum(i.quantity * i.unit_price)::float8 AS revenue
    FROM order_items i JOIN products p ON p.id = i.product_id
    GROUP BY p.id ORDER BY pieces DESC, p.name LIMIT 5`);
  return rows;
}
