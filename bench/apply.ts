/** What a local transaction costs a replica: changes in, rows and position written. Beside it the bare statement that writes a row. */
import assert from "node:assert/strict";
import type { Operation } from "../engine/protocol.ts";
import { type Bench, type Figure, figure, type Progress } from "./bench.ts";
import { Bare } from "./live/bare.ts";
import { LocalClient } from "./live/local.ts";
import { order } from "./live/orders.ts";
import { inTurn, median } from "./measure.ts";

interface Parameters {
  readonly rounds: number;
  /** Of one row, in each round. */
  readonly transactions: number;
  readonly rows: number;
  /** In the large transaction. */
  readonly many: number;
}

export const apply: Bench<Parameters> = {
  name: "apply",
  question: "What does it cost to apply a transaction of one row, and one of a thousand?",
  notMeasured:
    "What comes before: frames and their decoding; and after: live queries. PGlite is in Node and in memory. The floor of one row is the bare prepared upsert, without a transaction around it and without a position; that of a thousand is as many of them in one call.",
  real: { rounds: 7, transactions: 3_000, rows: 100_000, many: 1_000 },
  small: { rounds: 1, transactions: 5, rows: 100, many: 50 },
  run,
};

async function run(parameters: Parameters, progress: Progress): Promise<Figure[]> {
  const { rounds, transactions, rows, many } = parameters;
  progress(`${rows} rows into a replica and a bare PGlite`);
  const [ours, bare] = [await LocalClient.open(rows), await Bare.open(rows)];
  try {
    progress(`${transactions} transactions of a row, and one of ${many}`);
    const results = await inTurn(rounds, {
      one: () => ones(transactions, (id, note) => ours.apply([put(id, note)])),
      oneFloor: () => ones(transactions, (id, note) => bareUpserts(bare, [id], note)),
      many: () => ours.apply(ids(many).map((id) => put(id, note()))),
      manyFloor: () => bareUpserts(bare, ids(many), note()),
    });
    await check(ours, many);
    const conditions = { ...parameters };
    return [
      figure("one_row_ms", "ms", median(results.one), median(results.oneFloor), { conditions }),
      figure("thousand_rows_ms", "ms", median(results.many), median(results.manyFloor), { conditions }),
    ];
  } finally {
    await Promise.all([ours.close(), bare.close()]);
  }
}

let noteCount = 0;

function note(): string {
  return `note ${++noteCount}`;
}

/** The median of one round. */
async function ones(
  transactions: number,
  transaction: (id: number, note: string) => number | Promise<number>,
): Promise<number> {
  const times: number[] = [];
  for (let id = 0; id < transactions; id++) times.push(await transaction(id, note()));
  return median(times);
}

function put(id: number, text: string): Operation {
  return { kind: "update", row: order(id, text) };
}

function bareUpserts(bare: Bare, which: readonly number[], text: string): number {
  const rows = which.map((id) => order(id, text));
  return bare.run((messages) => rows.forEach((row) => messages.run("upsert", row)));
}

function ids(count: number): number[] {
  return Array.from({ length: count }, (_, id) => id);
}

async function check({ database }: LocalClient, many: number): Promise<void> {
  const sql = "SELECT count(*)::int AS changed FROM orders WHERE note <> '-'";
  const [row] = await database.select(sql, []);
  assert.ok(Number(row!.changed) >= many, "every row was written");
}
