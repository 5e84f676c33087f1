/**
 * `walcast doctor`: asks a database everything that decides whether Walcast can stream it, and answers in one line each,
 * with the statement that mends it. Exits 1 if something would keep the engine from starting or from telling the truth.
 */
import { Client } from "pg";
import { queryConfig } from "../changes/connection.ts";
import { resolveConfig } from "../config.ts";
import { WalcastError } from "../errors.ts";
import { type CommandLine, readConfig } from "./command.ts";
import { examine } from "./examine.ts";
import type { Finding } from "./finding.ts";

export async function doctor(line: CommandLine): Promise<number> {
  const config = resolveConfig(await readConfig(line));
  if (line.dropSlot) return dropSlot(config.databaseUrl, config.slot);
  const findings = await examine(config);
  for (const finding of findings) process.stdout.write(`${format(finding)}\n`);
  return findings.some(({ state }) => state === "fail") ? 1 : 0;
}

function format({ state, what, mend }: Finding): string {
  return `${state.padEnd(4)}  ${what}${mend === undefined ? "" : `; ${mend}`}`;
}

/** The slot is what makes Postgres keep WAL for an engine that is away. The next start makes a new one. */
async function dropSlot(databaseUrl: string, slot: string): Promise<number> {
  const client = new Client(queryConfig(databaseUrl, "walcast doctor"));
  await client.connect();
  try {
    const { rows } = await client.query<{ active_pid: number | null }>(
      "select active_pid from pg_replication_slots where slot_name = $1",
      [slot],
    );
    if (!rows[0]) return print(`There is no replication slot ${slot}.\n`);
    const { active_pid: pid } = rows[0];
    if (pid !== null)
      throw new WalcastError(
        "database_unsuitable",
        `drop the replication slot ${slot}: an engine uses it (Postgres process ${pid})`,
        { hint: "stop that engine first" },
      );
    await client.query("select pg_drop_replication_slot($1)", [slot]);
    return print(`The replication slot ${slot} is gone; clients start anew after the next start.\n`);
  } finally {
    await client.end();
  }
}

function print(text: string): number {
  process.stdout.write(text);
  return 0;
}
