/** How long after COMMIT a change of one row is at a raw WebSocket client of an engine that runs, whatever else it does meanwhile. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { Part } from "../processes.ts";

export interface Round {
  readonly databaseUrl: string;
  readonly port: number;
  readonly table: string;
  /** Of the table. */
  readonly rows: number;
  readonly commits: number;
  /** So many of them do not count. */
  readonly warmUp: number;
  readonly pauseMs: number;
}

/** Milliseconds for each commit, in fresh processes. */
export async function commitToFrame({
  databaseUrl,
  port,
  table,
  rows,
  commits,
  warmUp,
  pauseMs,
}: Round): Promise<number[]> {
  const reader = part("reader.ts", port, commits, table);
  try {
    await reader.says();
    const writer = part("writer.ts", databaseUrl, table, rows, commits, pauseMs);
    const [arrived, acknowledged] = await Promise.all([reader.says<number[]>(), writer.says<number[]>()]);
    await writer.stop();
    return differences(arrived, acknowledged).slice(warmUp);
  } finally {
    await reader.stop();
  }
}

/** Milliseconds per commit; each must have arrived, and in order. */
export function differences(arrived: readonly number[], acknowledged: readonly number[]): number[] {
  assert.equal(arrived.length, acknowledged.length);
  return acknowledged.map((at, number) => {
    assert.ok(
      arrived[number]! >= (arrived[number - 1] ?? 0),
      `commit ${number} arrived, and not before the one before`,
    );
    return (arrived[number]! - at) / 1e6;
  });
}

function part(file: string, ...args: readonly (string | number)[]): Part {
  return new Part(join(import.meta.dirname, file), ...args.map(String));
}
