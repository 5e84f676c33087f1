/**
 * What a browser makes of it: a table's first rows in its own file system, a read by key through the worker that has them, and how long
 * a page takes until it shows rows: with a store from an earlier visit, without one, and when the tab that had the store has ended. Beside it
 * a bare PGlite in the same browser.
 */
import assert from "node:assert/strict";
import { type Bench, type Figure, figure, type Progress } from "./bench.ts";
import type { ContenderName } from "./browser/contender.ts";
import { onScene, type PageGlobals, type Scene, type Visit } from "./browser/scene.ts";
import { type TakeoverParameters, takeovers } from "./browser/takeovers.ts";
import { inTurn, median, percentile } from "./measure.ts";

interface Parameters {
  readonly rounds: number;
  /** Of the table that is loaded and read by key. */
  readonly rows: number;
  /** One after the other, in each round. */
  readonly reads: number;
  /** Of the table that a page shows the newest of. */
  readonly shownRows: number;
  /** Visits to a store that is not there yet, each to one of its own. */
  readonly firstVisits: number;
  /** Visits to the last of these stores. */
  readonly visits: number;
}

type AllParameters = Parameters & TakeoverParameters;

export const browser: Bench<AllParameters> = {
  name: "browser",
  question:
    "In Chromium, with a replica in its file system: how fast does a table come in, how long does a read by key take, a page until it shows rows, and a tab until it has taken over?",
  notMeasured:
    "A network, other browsers, more than two tabs. Postgres, the engine and the browser share the machine's cores. The floor is a bare PGlite in a worker: one COPY of the same bytes and the primary key after it; a page that opens as many rows and selects, for a takeover one whose worker has waited with PGlite compiled; and for a read an answer of a worker that reads nothing. The peer is PGliteWorker.",
  real: {
    rounds: 3,
    rows: 100_000,
    reads: 2_000,
    shownRows: 12_000,
    firstVisits: 3,
    visits: 7,
    closes: 3,
    crashes: 3,
    readyMs: 2_500,
  },
  brief: { rounds: 1, firstVisits: 1, visits: 3, closes: 1, crashes: 1 },
  small: {
    rounds: 1,
    rows: 500,
    reads: 3,
    shownRows: 50,
    firstVisits: 1,
    visits: 1,
    closes: 0,
    crashes: 1,
    readyMs: 0,
  },
  run,
};

const loadedTable = "bench_orders";
const shownTable = "shown_orders";
const peer = "PGliteWorker";

function run({ closes, crashes, readyMs, ...parameters }: AllParameters, progress: Progress): Promise<Figure[]> {
  const { rows, shownRows } = parameters;
  return onScene({ [loadedTable]: rows, [shownTable]: shownRows }, async (scene) => {
    const { postgres, browser } = scene;
    const conditions = { postgres, browser, ...parameters };
    const stores = { ours: "", bare: "" };
    const turns = [
      ...(await loads(scene, parameters, progress)),
      ...(await shows(scene, stores, parameters, progress)),
    ];
    const ended = await takeovers(scene, shownTable, stores, { closes, crashes, readyMs }, progress);
    const own = { postgres, browser, shownRows, closes, crashes, readyMs };
    const visited = turns.map(({ name, unit, ours, floor, ...rest }) =>
      figure(
        name,
        unit,
        ours,
        floor,
        rest.peer === undefined ? { conditions } : { peer: rest.peer, conditions: { ...conditions, peer } },
      ),
    );
    return [...visited, ...ended.map(({ name, ours, floor }) => figure(name, "ms", ours, floor, { conditions: own }))];
  });
}

interface Measured {
  readonly name: string;
  readonly unit: string;
  readonly ours: number;
  readonly floor: number;
  readonly peer?: number;
}

let storeCount = 0;

// ── A table comes in, and is read ────────────────────────────────────────────────────────────────────────────────────

interface Loaded {
  readonly loadMs: number;
  readonly reads: readonly number[];
}

async function loads(scene: Scene, { rounds, rows, reads }: Parameters, progress: Progress): Promise<Measured[]> {
  const keys = Array.from({ length: reads }, (_, i) => 1 + ((i * 7919) % rows));
  const load = (contender: ContenderName) => () => {
    progress(`${rows} rows: ${contender}`);
    return loaded(scene, contender, keys);
  };
  const results = await inTurn(
    rounds,
    { ours: load("ours"), floor: load("bare"), peer: load("peer") },
    { warmUp: false },
  );
  const rate = (all: readonly Loaded[]): number => rows / (median(all.map(({ loadMs }) => loadMs)) / 1000);
  const read = (share: number) => (all: readonly Loaded[]) => median(all.map((one) => percentile(one.reads, share)));
  const beside = (name: string, unit: string, of: (all: readonly Loaded[]) => number): Measured => ({
    ...{ name, unit, ours: of(results.ours), floor: of(results.floor), peer: of(results.peer) },
  });
  return [
    beside("first_sync_rows_per_s", "rows/s", rate),
    beside("key_read_p50_ms", "ms", read(0.5)),
    beside("key_read_p99_ms", "ms", read(0.99)),
  ];
}

function loaded(scene: Scene, contender: ContenderName, keys: readonly number[]): Promise<Loaded> {
  const visit: Visit = { contender, table: loadedTable, store: `loaded-${++storeCount}`, empty: "" };
  return scene.visit(visit, async (page) => {
    const { digest, ...result } = await page.evaluate(async (keys) => {
      const contender = await (globalThis as unknown as PageGlobals).contending;
      const loadMs = await contender.load();
      const reads = await contender.read(keys);
      const digest = await contender.digest();
      await contender.close();
      return { loadMs, reads, digest };
    }, keys);
    assert.equal(digest, scene.digest(loadedTable));
    return result;
  });
}

// ── A page shows rows ────────────────────────────────────────────────────────────────────────────────────────────────

/** Leaves a store of each behind. */
async function shows(
  scene: Scene,
  stores: Record<"ours" | "bare", string>,
  { visits, firstVisits }: Parameters,
  progress: Progress,
): Promise<Measured[]> {
  const first = (contender: "ours" | "bare") => () => {
    progress(`first visit: ${contender}`);
    const store = (stores[contender] = `shown-${++storeCount}`);
    return shown(scene, { contender, store, table: shownTable, empty: "", show: "" });
  };
  const again = (contender: "ours" | "bare") => () => {
    progress(`visit: ${contender}`);
    return shown(scene, { contender, store: stores[contender], table: shownTable, show: "" });
  };
  const firsts = await inTurn(firstVisits, { ours: first("ours"), floor: first("bare") }, { warmUp: false });
  const others = await inTurn(visits, { ours: again("ours"), floor: again("bare") }, { warmUp: false });
  return [
    { name: "first_rows_ms", unit: "ms", ours: median(others.ours), floor: median(others.floor) },
    { name: "first_visit_rows_ms", unit: "ms", ours: median(firsts.ours), floor: median(firsts.floor) },
  ];
}

function shown(scene: Scene, visit: Visit): Promise<number> {
  return scene.visit(visit, (page) => page.evaluate(() => (globalThis as unknown as PageGlobals).shown));
}
