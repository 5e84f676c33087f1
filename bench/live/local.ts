/** A client without its connection: what comes from there is handed in, as whole local transactions. */
import { Database } from "../../client-sdk/database.ts";
import { LiveQueries } from "../../client-sdk/live.ts";
import type { Member } from "../../client-sdk/local-tables.ts";
import { Replica } from "../../client-sdk/replica.ts";
import type { Lsn, Operation } from "../../engine/protocol.ts";
import { copyLines, description } from "./orders.ts";

export class LocalClient {
  readonly database: Database;
  readonly queries: LiveQueries;
  private readonly replica: Replica;
  private readonly member: Member;
  private position = 1n;

  private constructor(database: Database, replica: Replica) {
    this.database = database;
    this.replica = replica;
    this.queries = new LiveQueries(database, Promise.resolve(), {
      isLoading: () => false,
      failureOf: () => undefined,
      position: () => replica.position,
    });
    this.member = {
      request: "orders",
      number: undefined,
      access: undefined,
      isOver: false,
      indexes: ["created_at DESC"],
    };
  }

  static async open(rows: number): Promise<LocalClient> {
    const database = new Database();
    await database.open();
    const client = new LocalClient(database, await database.exclusive(() => new Replica(database)));
    await database.exclusive(() => client.load(rows));
    return client;
  }

  /** Milliseconds of one local transaction. */
  apply(operations: readonly Operation[]): Promise<number> {
    return this.database.exclusive(() => {
      const started = performance.now();
      this.commit(operations);
      return performance.now() - started;
    });
  }

  /** The same, its callbacks included. */
  applyAndTell(operations: readonly Operation[]): Promise<number> {
    return this.database.exclusive(() => {
      const started = performance.now();
      this.queries.applied(this.commit(operations))();
      return performance.now() - started;
    });
  }

  close(): Promise<void> {
    return this.database.close();
  }

  private commit(operations: readonly Operation[]): ReturnType<Replica["commit"]>["changed"] {
    const steps = [{ kind: "changes" as const, changes: [{ member: this.member, operations }] }];
    return this.replica.commit(steps, [], ++this.position as Lsn).changed;
  }

  private load(rows: number): void {
    const load = this.replica.describe(this.member, description);
    this.replica.copy(load, copyLines(rows));
    this.replica.commit([], [{ load, portions: [] }], ++this.position as Lsn);
  }
}
