/** Several statements as one transaction of its own, as an application would send them. */
import type { TestDatabase } from "./postgres.ts";

/** Gives the transaction's 64-bit xid, as text. */
export async function transaction(db: TestDatabase, statements: readonly string[]): Promise<string> {
  const client = await db.pool.connect();
  try {
    await client.query("begin");
    for (const statement of statements) await client.query(statement);
    const { rows } = await client.query<{ xid: string }>("select pg_current_xact_id()::text as xid");
    await client.query("commit");
    return rows[0]!.xid;
  } catch (error) {
    await client.query("rollback");
    throw error;
  } finally {
    client.release();
  }
}
