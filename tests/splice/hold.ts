/**
 * Commits that are streamed while no SELECT shows them: they wait for a synchronous standby that does not exist. Their
 * commit record is written and flushed, so logical decoding has it; their locks and their place among the running
 * transactions stay until the setting is taken back.
 * https://www.postgresql.org/docs/current/runtime-config-replication.html#GUC-SYNCHRONOUS-STANDBY-NAMES
 */
import { setTimeout as delay } from "node:timers/promises";
import { Client } from "pg";
import type { Releasing } from "../support/postgres.ts";

export class Hold {
  private readonly url: string;
  private readonly control: Client;
  private readonly held: Promise<unknown>[] = [];
  private releasing: Promise<void> | undefined;

  /** Resolves when commits are really held up. They are let go at the end of the test, if not before. */
  static async begin(t: Releasing, url: string): Promise<Hold> {
    const control = await connect(url, "local");
    const hold = new Hold(url, control);
    t.after(() => hold.release());
    await control.query("alter system set synchronous_standby_names = 'nobody'");
    await control.query("select pg_reload_conf()");
    // The setting reaches the others a moment later: a commit that goes through says that it has not yet.
    while (!(await hold.commit("select pg_logical_emit_message(true, 'probe', '')")).isHeld);
    return hold;
  }

  private constructor(url: string, control: Client) {
    this.url = url;
    this.control = control;
  }

  /** Runs a transaction of these statements up to where its commit hangs. */
  async commit(...statements: readonly string[]): Promise<{ xid: bigint; isHeld: boolean }> {
    const client = await connect(this.url, "on");
    await client.query("begin");
    const { rows } = await client.query<{ xid: string; pid: number }>(
      "select pg_current_xact_id()::text as xid, pg_backend_pid() as pid",
    );
    for (const statement of statements) await client.query(statement);
    const done = client.query("commit").then(() => client.end());
    this.held.push(done);
    return { xid: BigInt(rows[0]!.xid), isHeld: await this.hangs(rows[0]!.pid, done) };
  }

  /** How many commits wait for the standby, the writers' own among them. */
  async count(): Promise<number> {
    const { rows } = await this.control.query<{ count: number }>(
      "select count(*)::int as count from pg_stat_activity where wait_event = 'SyncRep'",
    );
    return rows[0]!.count;
  }

  /** Resolves when all that was held is visible. */
  release(): Promise<void> {
    return (this.releasing ??= this.letGo());
  }

  private async letGo(): Promise<void> {
    await this.control.query("alter system reset synchronous_standby_names");
    await this.control.query("select pg_reload_conf()");
    await Promise.all(this.held);
    await this.control.end();
  }

  private async hangs(pid: number, done: Promise<unknown>): Promise<boolean> {
    const ended = done.then(() => "ended");
    for (;;) {
      const { rowCount } = await this.control.query(
        "select from pg_stat_activity where pid = $1 and wait_event = 'SyncRep'",
        [pid],
      );
      if (rowCount) return true;
      if ((await Promise.race([ended, delay(askAgainMs, "running")])) === "ended") return false;
    }
  }
}

const askAgainMs = 5;

async function connect(url: string, synchronousCommit: string): Promise<Client> {
  const client = new Client({ connectionString: url, options: `-c synchronous_commit=${synchronousCommit}` });
  await client.connect();
  return client;
}
