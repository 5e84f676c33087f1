/**
 * What a change costs live queries: the newest of many rows, from COMMIT at a server to the callback; and in a client by
 * itself, all rows in one query, and many queries at once. Beside it what a bare PGlite needs to write the row and look it
 * up, PGlite's own extension `live`, and TanStack DB.
 */
import assert from "node:assert/strict";
import type { LiveQuery } from "../client-sdk/live.ts";
import type { Messages } from "../client-sdk/wire.ts";
import { type Bench, type Conditions, type Figure, figure, type Progress } from "./bench.ts";
import { type CourseParameters, onCourse } from "./latency/course.ts";
import { Bare } from "./live/bare.ts";
import { Collection } from "./live/collection.ts";
import { Extension } from "./live/extension.ts";
import { JoinedOrders } from "./live/joined.ts";
import { LocalClient } from "./live/local.ts";
import { order } from "./live/orders.ts";
import { inTurn, median } from "./measure.ts";

interface Parameters extends CourseParameters {
  readonly rounds: number;
  /** Changes of one row, in each round; `peerChanges` for the extension, which takes a second for one. */
  readonly changes: number;
  readonly peerChanges: number;
  /** Open at once. */
  readonly queries: number;
  /** Whose orders they are, in a join. */
  readonly customers: number;
}

export const live: Bench<Parameters> = {
  name: "live",
  question:
    "How long does a change take to the callback: of the newest 50 of 100,000 rows, of all of them, of 100 queries, of a join?",
  notMeasured:
    "A browser, and queries that have to run again. The first figure is the whole way from COMMIT, in processes of their own, its floor a bare PGlite behind a bare feed; the other two begin where a client has the change. Their floor writes the row and looks it up for each query, in one call of a bare PGlite. The peers are PGlite's extension live, and TanStack DB, which has all rows in JavaScript, stores nothing and tells only what changed. The join's figures begin where the replica has the change; their floor runs the query again.",
  real: {
    ...{ rounds: 3, commits: 1_000, warmUp: 600, pauseMs: 1, callbackPauseMs: 3, rows: 100_000, top: 50 },
    ...{ changes: 200, peerChanges: 2, queries: 100, customers: 5_000 },
  },
  brief: { rounds: 1 },
  small: {
    ...{ rounds: 1, commits: 12, warmUp: 2, pauseMs: 1, callbackPauseMs: 5, rows: 200, top: 12 },
    ...{ changes: 3, peerChanges: 1, queries: 5, customers: 20 },
  },
  run,
};

const peers = { extension: "PGlite's live extension", collection: "TanStack DB" } as const;

async function run(parameters: Parameters, progress: Progress): Promise<Figure[]> {
  const { commits, rows, queries } = parameters;
  progress(`${commits} commits, seen in the newest of ${rows} rows`);
  const top = await topFigures(parameters);
  progress(`all of ${rows} rows in one live query`);
  const all = await allFigures(parameters);
  progress(`${queries} live queries`);
  const many = await manyFigures(parameters);
  progress(`the newest of ${rows} orders, with the names of ${parameters.customers} customers`);
  return [...top, ...all, ...many, ...(await joinFigures(parameters))];
}

/** Per round, the median of its commits. */
function topFigures(parameters: Parameters): Promise<Figure[]> {
  return onCourse(parameters, async (course, postgres) => {
    const results = await inTurn(
      parameters.rounds,
      {
        ours: async () => median(await course.callbacks()),
        floor: async () => median(await course.bareCallbacks("replica.ts")),
        extension: async () => median(await course.bareCallbacks("extension.ts")),
        collection: async () => median(await course.bareCallbacks("collection.ts")),
      },
      { warmUp: false },
    );
    return besidePeers("top50_callback_ms", results, { postgres, ...parameters });
  });
}

interface Results {
  readonly ours: readonly number[];
  readonly floor: readonly number[];
  readonly extension: readonly number[];
  readonly collection: readonly number[];
}

/** A figure for each peer. */
function besidePeers(name: string, { ours, floor, ...results }: Results, conditions: Conditions): Figure[] {
  return (["extension", "collection"] as const).map((one) =>
    figure(name, "ms", median(ours), median(floor), {
      peer: median(results[one]),
      conditions: { ...conditions, peer: peers[one] },
    }),
  );
}

/** One order changes, one customer does, or the query runs again. */
async function joinFigures(parameters: Parameters): Promise<Figure[]> {
  const { rows, customers, changes, rounds } = parameters;
  const joined = await JoinedOrders.open(rows, customers);
  try {
    const results = await inTurn(rounds, {
      order: () => medianOf(changes, (note) => joined.order(note)),
      customer: () => medianOf(changes, (name) => joined.customer(name)),
      floor: () => medianOf(changes, () => joined.again()),
    });
    const floor = median(results.floor);
    return [
      figure("join_order_ms", "ms", median(results.order), floor, { conditions: { ...parameters } }),
      figure("join_customer_ms", "ms", median(results.customer), floor, { conditions: { ...parameters } }),
    ];
  } finally {
    await joined.close();
  }
}

// ── In a client by itself ────────────────────────────────────────────────────────────────────────────────────────────

async function allFigures(parameters: Parameters): Promise<Figure[]> {
  const parts = await open(parameters);
  const shown = parts.ours.queries.add<Order>("SELECT * FROM orders", []);
  const seen = await watch([shown]);
  await parts.extension.watchAll();
  const told = tally();
  await parts.collection.watchAll(told.tell);
  parts.bare.prepare("look", "SELECT * FROM orders WHERE id = $1");
  const lookUp = (messages: Messages): void => void messages.run("look", ["0"]);
  return measured("full_table_row_ms", parameters, parts, { seen, told: told.seen, lookUp, callbacks: 1 });
}

/** All of them show the row. */
const newest = "SELECT * FROM orders WHERE amount > $1 ORDER BY created_at DESC LIMIT 50";

async function manyFigures(parameters: Parameters): Promise<Figure[]> {
  const parts = await open(parameters);
  const numbers = Array.from({ length: parameters.queries }, (_, i) => i + 1);
  const seen = await watch(numbers.map((number) => parts.ours.queries.add<Order>(newest, [-number])));
  await parts.extension.watchNewest(parameters.queries, newest);
  const told = tally();
  for (const number of numbers) await parts.collection.watchNewest(-number, 50, told.tell);
  parts.bare.prepare("look", "SELECT * FROM orders WHERE amount > $1 AND id = $2");
  const lookUp = (messages: Messages): void => numbers.forEach((number) => messages.run("look", [`-${number}`, "0"]));
  return measured("hundred_queries_ms", parameters, parts, {
    seen,
    told: told.seen,
    lookUp,
    callbacks: parameters.queries,
  });
}

interface Order {
  readonly id: number;
  readonly note: string;
}

interface Parts {
  readonly ours: LocalClient;
  readonly bare: Bare;
  readonly extension: Extension;
  readonly collection: Collection;
}

async function open({ rows }: Parameters): Promise<Parts> {
  return {
    ...{ ours: await LocalClient.open(rows), bare: await Bare.open(rows) },
    ...{ extension: await Extension.open(rows), collection: await Collection.open(rows) },
  };
}

/** Counts the callbacks that have shown a note. */
async function watch(queries: readonly LiveQuery<Order>[]): Promise<(note: string) => number> {
  await Promise.all(queries.map(({ ready }) => ready));
  const { tell, seen } = tally();
  for (const query of queries) query.subscribe((_, { updated }) => tell(updated.map(({ note }) => note)));
  return seen;
}

interface Tally {
  readonly tell: (notes: readonly string[]) => void;
  readonly seen: (note: string) => number;
}

/** Of callbacks, by the notes that they have shown. */
function tally(): Tally {
  let notes: string[] = [];
  return {
    tell: (shown) => void notes.push(...shown),
    seen: (note) => {
      const count = notes.filter((one) => one === note).length;
      notes = [];
      return count;
    },
  };
}

interface Work {
  seen(note: string): number;
  /** By the collection. */
  told(note: string): number;
  lookUp(messages: Messages): void;
  readonly callbacks: number;
}

async function measured(name: string, parameters: Parameters, parts: Parts, work: Work): Promise<Figure[]> {
  const { ours, bare, extension, collection } = parts;
  const { changes, peerChanges, rounds } = parameters;
  try {
    const results = await inTurn(rounds, {
      ours: () =>
        medianOf(changes, async (note) => {
          const ms = await ours.applyAndTell([{ kind: "update", row: order(0, note) }]);
          assert.equal(work.seen(note), work.callbacks, "every callback has shown the change");
          return ms;
        }),
      floor: () =>
        medianOf(changes, (note) => {
          const row = order(0, note);
          return bare.run((messages) => work.lookUp(messages.run("upsert", row)));
        }),
      extension: () => medianOf(peerChanges, (note) => extension.put(0, note, work.callbacks)),
      collection: () =>
        medianOf(changes, (note) => {
          const row = order(0, note);
          const started = performance.now();
          collection.put(row);
          const ms = performance.now() - started;
          assert.equal(work.told(note), work.callbacks, "every callback has told the change");
          return ms;
        }),
    });
    return besidePeers(name, results, { ...parameters });
  } finally {
    await Promise.all([ours.close(), bare.close(), extension.close(), collection.close()]);
  }
}

let noteCount = 0;

async function medianOf(count: number, change: (note: string) => number | Promise<number>): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < count; i++) times.push(await change(`note ${++noteCount}`));
  return median(times);
}
