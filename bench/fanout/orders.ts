/** The rows that fan out, all of the same length: whatever commits, the frames of as many rows have as many bytes. */
import assert from "node:assert/strict";
import pg from "pg";
import { parseLsn } from "../../engine/protocol.ts";

/** As long as the last. */
export const firstId = 1_000;

export function createOrders(table: string, rows: number): string {
  assert.ok(rows <= 9_000);
  return `create table ${table} (id int primary key, status text not null, amount numeric(10,2) not null, note text not null);
    insert into ${table} select ${firstId} + i, 'pending', 10.25, '${noteOf(0)}' from generate_series(0, ${rows - 1}) i;
    alter table ${table} replica identity full`;
}

export interface Committed {
  /** Of the WAL, before its commit and not before the commit before it. */
  readonly before: bigint;
  /** When COMMIT was acknowledged, or would have been had the transaction begun when it was due. */
  readonly ns: number;
}

export class Writer {
  private readonly client: pg.Client;
  private commits = 0;

  constructor(databaseUrl: string) {
    this.client = new pg.Client({ connectionString: databaseUrl });
  }

  open(): Promise<unknown> {
    return this.client.connect();
  }

  close(): Promise<void> {
    return this.client.end();
  }

  /** So many rows from the first id on, in one transaction. */
  async commit(table: string, first: number, rows: number): Promise<Committed> {
    const update = `update ${table} set note = '${noteOf(++this.commits)}' where id between ${first} and ${first + rows - 1}`;
    const position = "select pg_current_wal_insert_lsn()::text as lsn";
    const results: unknown = await this.client.query(`begin; ${update}; ${position}; commit`);
    const ns = Number(process.hrtime.bigint());
    const [, updated, found] = results as [unknown, pg.QueryResult, pg.QueryResult<{ lsn: string }>];
    assert.equal(updated.rowCount, rows);
    return { before: parseLsn(found.rows[0]!.lsn), ns };
  }
}

function noteOf(commit: number): string {
  return `note ${String(commit).padStart(8, "0")}`;
}
