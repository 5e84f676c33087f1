/**
 * Kysely on the replica, through prepared statements that are kept. Reading only, as everything an application does on
 * the replica. A Kysely transaction is one local transaction: its queries see one state.
 */
import {
  type CompiledQuery,
  type DatabaseConnection,
  type Dialect,
  type Driver,
  Kysely,
  PostgresAdapter,
  PostgresIntrospector,
  PostgresQueryCompiler,
  type QueryResult,
  type TransactionSettings,
} from "kysely";

import type { Database } from "./database.ts";

/** `open`: called when it is used. */
export function createKysely<DB>(open: () => Promise<Database>): Kysely<DB> {
  const dialect: Dialect = {
    createAdapter: () => new PostgresAdapter(),
    createDriver: () => new ReplicaDriver(open),
    createIntrospector: (db) => new PostgresIntrospector(db),
    createQueryCompiler: () => new PostgresQueryCompiler(),
  };
  return new Kysely<DB>({ dialect });
}

class ReplicaDriver implements Driver {
  private readonly open: () => Promise<Database>;

  constructor(open: () => Promise<Database>) {
    this.open = open;
  }

  async init(): Promise<void> {
    await this.open();
  }

  async acquireConnection(): Promise<DatabaseConnection> {
    return new ReplicaConnection(await this.open());
  }

  async beginTransaction(connection: DatabaseConnection, { isolationLevel }: TransactionSettings): Promise<void> {
    await (connection as ReplicaConnection).begin(
      isolationLevel ? `BEGIN READ ONLY ISOLATION LEVEL ${isolationLevel}` : "BEGIN READ ONLY",
    );
  }

  async commitTransaction(connection: DatabaseConnection): Promise<void> {
    (connection as ReplicaConnection).end("COMMIT");
  }

  async rollbackTransaction(connection: DatabaseConnection): Promise<void> {
    (connection as ReplicaConnection).end("ROLLBACK");
  }

  async releaseConnection(): Promise<void> {}

  async destroy(): Promise<void> {}
}

class ReplicaConnection implements DatabaseConnection {
  private readonly database: Database;
  /** Gives the replica's turn back; there while a transaction is open. */
  private release: (() => void) | undefined;

  constructor(database: Database) {
    this.database = database;
  }

  async begin(sql: string): Promise<void> {
    this.release = await this.database.hold();
    this.database.script(sql);
  }

  end(sql: string): void {
    this.database.script(sql);
    this.release?.();
    this.release = undefined;
  }

  async executeQuery<R>({ sql, parameters }: CompiledQuery): Promise<QueryResult<R>> {
    const rows = this.release ? this.database.rows(sql, parameters) : await this.database.select(sql, parameters);
    return { rows: rows as R[] };
  }

  async *streamQuery<R>(query: CompiledQuery): AsyncIterableIterator<QueryResult<R>> {
    yield await this.executeQuery<R>(query);
  }
}
