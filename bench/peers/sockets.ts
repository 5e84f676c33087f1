/** One transaction's rows to many sockets, beside a server that sends the same bytes with the library `ws`. */
import { join } from "node:path";
import type { Figure } from "../bench.ts";
import { firstId } from "../fanout/orders.ts";
import { type Contender, Scene } from "../fanout/scene.ts";
import { inTurn, median } from "../measure.ts";
import { benchPostgres } from "../postgres.ts";
import { beside, type Circumstances } from "./beside.ts";

export interface SocketsParameters {
  readonly rounds: number;
  readonly transactions: number;
  readonly sockets: number;
  /** Of one transaction. */
  readonly rows: readonly number[];
}

export async function socketsFigures(
  { rounds, transactions, sockets, rows }: SocketsParameters,
  { directory, progress }: Circumstances,
): Promise<Figure[]> {
  const postgres = await benchPostgres();
  const scene = new Scene(postgres, join(directory, "sockets"), "../peers/ws/server.ts");
  try {
    progress(`transactions of ${rows.join(", ")} rows to ${sockets} sockets`);
    await scene.open(Math.max(...rows), rows);
    const ours = await scene.contender("ours", sockets, "one");
    const theirs = await scene.contender("floor", sockets, "one");
    const figures: Figure[] = [];
    for (const count of rows) {
      await scene.replay("one", count);
      const round = (contender: Contender) => () =>
        rowsPerSecond(scene, contender, { transactions, sockets, rows: count });
      const results = await inTurn(rounds, { ours: round(ours), theirs: round(theirs) });
      const conditions = {
        ...scene.conditions,
        rounds,
        transactions,
        sockets,
        rows: count,
        peer: "a server with the library ws",
      };
      figures.push(beside("rows_per_s", "rows/s", results.ours, results.theirs, conditions));
    }
    await ours.leave();
    await theirs.leave();
    return figures;
  } finally {
    await scene.close();
    await postgres.stop();
  }
}

/** Over all sockets, by the median of the times until the last of them has a transaction. */
async function rowsPerSecond(
  scene: Scene,
  contender: Contender,
  { transactions, sockets, rows }: { readonly transactions: number; readonly sockets: number; readonly rows: number },
): Promise<number> {
  const ms: number[] = [];
  for (let i = 0; i < transactions; i++) {
    const last = contender.frameAtAll();
    const { ns } = await scene.writer.commit(contender.table, firstId, rows);
    ms.push(((await last) - ns) / 1e6);
  }
  return (rows * sockets * 1_000) / median(ms);
}
