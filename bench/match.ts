/**
 * What it costs to find the shapes that a changed row belongs to, by how many shapes there are and how they are written.
 * Rows lie side by side in one buffer and are read through one tuple, as they come from the stream.
 */
import assert from "node:assert/strict";
import type { Table } from "../engine/changes/table.ts";
import { TEXT_VALUE, Tuple } from "../engine/changes/tuple.ts";
import { type Candidate, PredicateIndex } from "../engine/shapes/predicate-index.ts";
import { compileWhere, loadParser, type Predicate } from "../engine/shapes/where.ts";
import type { Bench, Figure, Progress } from "./bench.ts";
import { figure } from "./bench.ts";
import { inTurn, median, secondsOf } from "./measure.ts";

interface Parameters {
  readonly shapes: readonly number[];
  readonly changes: number;
  readonly rounds: number;
}

export const match: Bench<Parameters> = {
  name: "match",
  question: "How long does it take to find the shapes of one changed row among many?",
  notMeasured:
    "Decoding the row, and writing what was found. Each row belongs to one shape. The floor is one look-up in a Map by a string that is already there.",
  real: { shapes: [1_000, 100_000, 1_000_000], changes: 100_000, rounds: 5 },
  small: { shapes: [1_000], changes: 1_000, rounds: 1 },
  run,
};

interface Kind {
  readonly name: string;
  readonly where: string;
  readonly params: (n: number) => unknown[];
}

const kinds: readonly Kind[] = [
  { name: "integer =", where: "id = $1", params: (n) => [n] },
  { name: "uuid =", where: "owner = $1", params: (n) => [uuid(n)] },
  { name: "IN of 3", where: "id IN ($1, $2, $3)", params: (n) => [n, -n - 1, -n - 2_000_000_000] },
  { name: "= and a range", where: "id = $1 AND amount < 1000", params: (n) => [n] },
];

async function run({ shapes, changes, rounds }: Parameters, progress: Progress): Promise<Figure[]> {
  await loadParser();
  const figures: Figure[] = [];
  for (const count of shapes) {
    for (const kind of kinds) {
      progress(`${count} shapes, ${kind.name}`);
      figures.push(await measure(kind, count, changes, rounds));
    }
  }
  return figures;
}

async function measure(kind: Kind, count: number, changes: number, rounds: number): Promise<Figure> {
  const index = new PredicateIndex<Predicate>();
  const byId = new Map<string, number>();
  for (let n = 0; n < count; n++) {
    const predicate = compileWhere(kind.where, kind.params(n), table);
    index.add(predicate, predicate);
    byId.set(String(n), n);
  }
  const rows = new Rows(changes, count);
  const seconds = await inTurn(rounds, {
    ours: () => secondsOf(() => assert.equal(routed(index, rows), changes)),
    floor: () => secondsOf(() => assert.equal(lookedUp(byId, rows.ids), changes)),
  });
  const nanoseconds = (name: keyof typeof seconds): number => (median(seconds[name]) / changes) * 1e9;
  return figure("ns_per_change", "ns", nanoseconds("ours"), nanoseconds("floor"), {
    conditions: { shapes: count, kind: kind.name, changes },
  });
}

/** As the registry does it: what the index is not sure of is checked. */
function routed(index: PredicateIndex<Predicate>, rows: Rows): number {
  let found = 0;
  const visit = ({ predicate, needsCheck }: Candidate<Predicate>): void => {
    if (!needsCheck || predicate.matches(rows.tuple) === true) found++;
  };
  for (let i = 0; i < rows.count; i++) {
    rows.show(i);
    index.candidates(rows.tuple, visit);
  }
  return found;
}

function lookedUp(byId: ReadonlyMap<string, number>, ids: readonly string[]): number {
  let found = 0;
  for (const id of ids) if (byId.get(id) !== undefined) found++;
  return found;
}

/** Rows of id, owner and amount, spread evenly over the shapes in an order that no cache can guess. */
class Rows {
  readonly tuple = new Tuple();
  readonly ids: readonly string[];
  readonly count: number;
  private readonly starts: Int32Array;

  constructor(count: number, shapes: number) {
    this.count = count;
    this.ids = Array.from({ length: count }, (_, i) => String((i * 514_229) % shapes));
    const values = this.ids.flatMap((id) => [id, uuid(Number(id)), "12.50"]);
    this.starts = new Int32Array(values.length + 1);
    values.forEach((value, i) => (this.starts[i + 1] = this.starts[i]! + value.length));
    this.tuple.reset(Buffer.from(values.join("")), 3);
    this.tuple.kinds.fill(TEXT_VALUE);
  }

  show(row: number): void {
    for (let column = 0; column < 3; column++) {
      this.tuple.starts[column] = this.starts[row * 3 + column]!;
      this.tuple.ends[column] = this.starts[row * 3 + column + 1]!;
    }
  }
}

function uuid(n: number): string {
  return `3f1c2a4e-0b5d-4c6e-8f70-${n.toString(16).padStart(12, "0")}`;
}

const table: Table = {
  oid: 16_384,
  schema: "public",
  name: "orders",
  version: "1",
  columns: (
    [
      ["id", 20, "bigint"],
      ["owner", 2950, "uuid"],
      ["amount", 1700, "numeric"],
    ] as const
  ).map(([name, oid, type], i) => ({
    name,
    attnum: i + 1,
    typeOid: oid,
    typmod: -1,
    type,
    baseTypeOid: oid,
    baseTypeKind: "b",
    baseTypmod: -1,
    notNull: false,
  })),
  key: [0],
  replicaIdentity: "f",
  identityColumns: [0, 1, 2],
  types: [],
};
