/**
 * Commits single-row updates, one at a time with a pause between, and notes when each COMMIT was acknowledged. Each
 * marks its row with its number, by which whoever sees the row knows the commit.
 */
import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import { say, whenDismissed } from "../processes.ts";
import { markOf } from "./arrivals.ts";

const [url = "", table = "", rows = "", commits = "", pauseMs = ""] = process.argv.slice(2);
whenDismissed();
say(await write(url, table, Number(rows), Number(commits), Number(pauseMs)));

async function write(url: string, table: string, rows: number, commits: number, pauseMs: number): Promise<number[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  const acknowledged: number[] = [];
  for (let number = 0; number < commits; number++) {
    // Uneven, so as not to fall into step with anybody's timer.
    await delay(pauseMs * (0.5 + Math.random()));
    await commit(client, table, (number * 7919) % rows, number);
    acknowledged.push(Number(process.hrtime.bigint()));
  }
  await client.end();
  return acknowledged;
}

async function commit(client: pg.Client, table: string, id: number, number: number): Promise<void> {
  const text = `update ${table} set status = 'paid', note = $2 where id = $1`;
  await client.query({ name: "commit", text, values: [id, markOf(number)] });
}
