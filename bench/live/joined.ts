/** The newest orders with their customers' names, in a live query: in a replica that has a change already. */
import assert from "node:assert/strict";
import { Changed } from "../../client-sdk/changed.ts";
import { Database } from "../../client-sdk/database.ts";
import { LiveQueries, type LiveQuery } from "../../client-sdk/live.ts";
import { zeroLsn } from "../../engine/protocol.ts";
import { copyLines, createTable, description } from "./orders.ts";

const newest =
  "SELECT o.id, o.note, o.created_at, c.name FROM orders o JOIN customers c ON c.id = o.customer_id ORDER BY o.created_at DESC, o.id LIMIT 50";

interface Joined {
  readonly note: string;
  readonly name: string;
}

export class JoinedOrders {
  private readonly database: Database;
  private readonly queries: LiveQueries;
  private readonly live: LiveQuery<Joined>;

  private constructor(database: Database) {
    this.database = database;
    this.queries = new LiveQueries(database, Promise.resolve(), {
      isLoading: () => false,
      failureOf: () => undefined,
      position: () => zeroLsn,
    });
    this.live = this.queries.add<Joined>(newest, []);
  }

  static async open(rows: number, customers: number): Promise<JoinedOrders> {
    const database = new Database();
    await database.open();
    await database.exclusive(() => {
      database.script(
        `BEGIN READ WRITE; ${createTable}; CREATE INDEX ON orders (customer_id);
        CREATE TABLE customers (id int PRIMARY KEY, name text);
        INSERT INTO customers SELECT i, 'customer ' || i FROM generate_series(1, ${customers}) i; COMMIT`,
      );
      database.copy("orders", description.columns.map(({ name }) => name).join(", "), copyLines(rows, customers));
    });
    const joined = new JoinedOrders(database);
    await joined.live.ready;
    assert.equal(joined.queries.list()[0]!.why, undefined);
    return joined;
  }

  /** Milliseconds until the callbacks were called. */
  async order(note: string): Promise<number> {
    const ms = await this.changed('"public"."orders"', "0", "UPDATE orders SET note = $1 WHERE id = 0", note);
    assert.equal(this.live.rows[0]!.note, note);
    return ms;
  }

  async customer(name: string): Promise<number> {
    const ms = await this.changed('"public"."customers"', "1", "UPDATE customers SET name = $1 WHERE id = 1", name);
    assert.equal(this.live.rows[0]!.name, name);
    return ms;
  }

  /** Milliseconds of the same query by itself, prepared: its rows' bytes, of which nothing is made. */
  again(): Promise<number> {
    return this.database.exclusive(() => {
      const started = performance.now();
      this.database.query(newest, []);
      return performance.now() - started;
    });
  }

  close(): Promise<void> {
    return this.database.close();
  }

  private changed(table: string, key: string, update: string, value: string): Promise<number> {
    const changed = new Changed();
    changed.addNet(table, { truncated: false, changes: new Map([[key, { key: [key], row: undefined }]]) });
    return this.database.exclusive(() => {
      this.database.transaction(() => void this.database.query(update, [value]));
      const started = performance.now();
      this.queries.applied(changed)();
      return performance.now() - started;
    });
  }
}
