/** Kysely over a link: one message per query, or per step of a transaction. */
import {
  type CompiledQuery,
  type DatabaseConnection,
  type Driver,
  Kysely,
  PostgresAdapter,
  PostgresIntrospector,
  PostgresQueryCompiler,
  type QueryResult,
  type TransactionSettings,
} from "kysely";

import type { Link } from "./link.ts";

export function createGuestKysely<DB>(link: Link): Kysely<DB> {
  return new Kysely<DB>({
    dialect: {
      createAdapter: () => new PostgresAdapter(),
      createDriver: () => new GuestDriver(link),
      createIntrospector: (db) => new PostgresIntrospector(db),
      createQueryCompiler: () => new PostgresQueryCompiler(),
    },
  });
}

class GuestDriver implements Driver {
  private readonly link: Link;

  constructor(link: Link) {
    this.link = link;
  }

  async init(): Promise<void> {}

  async acquireConnection(): Promise<DatabaseConnection> {
    return new GuestConnection(this.link);
  }

  async beginTransaction(connection: DatabaseConnection, { isolationLevel }: TransactionSettings): Promise<void> {
    const guest = connection as GuestConnection;
    guest.transaction = await this.link.call("begin", { kind: "kysely", isolationLevel });
  }

  async commitTransaction(connection: DatabaseConnection): Promise<void> {
    await (connection as GuestConnection).end("commit");
  }

  async rollbackTransaction(connection: DatabaseConnection): Promise<void> {
    await (connection as GuestConnection).end("rollback");
  }

  async releaseConnection(): Promise<void> {}

  async destroy(): Promise<void> {}
}

class GuestConnection implements DatabaseConnection {
  /** While one is open. */
  transaction: number | undefined;
  private readonly link: Link;

  constructor(link: Link) {
    this.link = link;
  }

  async end(how: "commit" | "rollback"): Promise<void> {
    const { transaction } = this;
    this.transaction = undefined;
    if (transaction !== undefined) await this.link.call("end", transaction, how);
  }

  async executeQuery<R>({ sql, parameters }: CompiledQuery): Promise<QueryResult<R>> {
    if (this.transaction === undefined) return { rows: (await this.link.call("query", sql, parameters)) as R[] };
    const { rows } = await this.link.call("step", this.transaction, sql, parameters);
    return { rows: rows as R[] };
  }

  async *streamQuery<R>(query: CompiledQuery): AsyncIterableIterator<QueryResult<R>> {
    yield await this.executeQuery<R>(query);
  }
}
