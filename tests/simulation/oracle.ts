/** Reads the second slot, for as long as the simulation runs and through every crash, and keeps the history up to date. */
import { setTimeout as delay } from "node:timers/promises";
import { Client } from "pg";
import { parseLsn } from "../../engine/protocol.ts";
import { decodeLines, type DecodedLine } from "./decoding.ts";
import type { History } from "./history.ts";
import { messagePrefix } from "./layout.ts";

const slot = "oracle";

export class Oracle {
  private readonly url: string;
  private readonly history: History;
  private client: Client | undefined;

  /** Before the first table is made. */
  static async create(db: Client, url: string, history: History): Promise<Oracle> {
    await db.query("select pg_create_logical_replication_slot($1, 'test_decoding')", [slot]);
    return new Oracle(url, history);
  }

  private constructor(url: string, history: History) {
    this.url = url;
    this.history = history;
  }

  /** What was committed since the last time. Where Postgres is away, the next time brings it. */
  async read(): Promise<boolean> {
    try {
      this.client ??= await connectAsWalcastReads(this.url);
      const flushed = await this.client.query<{ lsn: string }>("select pg_current_wal_flush_lsn()::text as lsn");
      const { rows } = await this.client.query<DecodedLine>(
        "select lsn::text, data from pg_logical_slot_get_changes($1, null, null)",
        [slot],
      );
      await this.history.append(decodeLines(rows, messagePrefix), parseLsn(flushed.rows[0]!.lsn));
      return true;
    } catch (error) {
      if (!isAway(error)) throw error;
      await this.close();
      await delay(50);
      return false;
    }
  }

  /** Everything that is committed when this is called. */
  async readToTheEnd(): Promise<void> {
    while (!(await this.read()));
  }

  async close(): Promise<void> {
    const { client } = this;
    this.client = undefined;
    await client?.end().catch(() => {});
  }
}

/** With the settings under which Walcast promises a value's text. */
export async function connectAsWalcastReads(connectionString: string): Promise<Client> {
  const settings = {
    DateStyle: "ISO,MDY",
    IntervalStyle: "postgres",
    TimeZone: "UTC",
    extra_float_digits: "1",
    bytea_output: "hex",
    // The cluster's 64 kB are for the engine. With them, Postgres 18 was seen to crash in pg_logical_slot_get_changes.
    logical_decoding_work_mem: "256MB",
  };
  const options = Object.entries(settings).map(([name, value]) => `-c ${name}=${value}`);
  const client = new Client({ connectionString, options: options.join(" ") });
  client.on("error", () => {});
  await client.connect();
  return client;
}

/** A connection that broke or was refused, and a slot whose last reader has not let go yet. */
export function isAway(error: unknown): boolean {
  const { code = "", message } = error as { code?: string; message: string };
  return (
    ["ECONNREFUSED", "ECONNRESET", "EPIPE", "55006"].includes(code) ||
    /^(57P|08)/.test(code) ||
    /^(Connection terminated|Client has encountered)/.test(message)
  );
}
