/** The index over predicates alone, by how the predicates are written. */
import assert from "node:assert/strict";
import { Tuple } from "../../engine/changes/tuple.ts";
import type { Candidate } from "../../engine/shapes/index/bucket.ts";
import { PredicateIndex } from "../../engine/shapes/predicate-index.ts";
import { compileWhere } from "../../engine/shapes/where.ts";
import { type Figure, figure } from "../bench.ts";
import type { Parameters } from "../match.ts";
import { inTurn, median, secondsOf } from "../measure.ts";
import { amount, customer, keyOf, lookedUp, Rows, status, table, uuid } from "./orders.ts";

interface Kind {
  readonly name: string;
  readonly where: string;
  readonly params: (n: number) => unknown[];
  /** Where each row costs as much as there are shapes. */
  readonly shapesMax?: number;
}

export const kinds: readonly Kind[] = [
  { name: "two columns =", where: "customer_id = $1 AND status = $2", params: (n) => [customer(n), status(n)] },
  { name: "integer =", where: "id = $1", params: (n) => [n] },
  { name: "uuid =", where: "owner = $1", params: (n) => [uuid(n)] },
  { name: "IN of 3", where: "id IN ($1, $2, $3)", params: (n) => [n, -n - 1, -n - 2_000_000_000] },
  { name: "a range", where: "amount >= $1 AND amount < $2", params: (n) => [n * 10, n * 10 + 10] },
  {
    name: "= and a range",
    where: "status = $1 AND amount BETWEEN $2 AND $3",
    params: (n) => [status(n), amount(n), amount(n)],
  },
  { name: "= and IS NULL", where: "id = $1 AND deleted_at IS NULL", params: (n) => [n] },
  { name: "= and a check", where: "id = $1 AND status <> 'lost'", params: (n) => [n] },
  { name: "no index", where: "(id <> $1) IS FALSE", params: (n) => [n], shapesMax: 1_000 },
];

export async function measureKind(kind: Kind, shapes: number, { changes, rounds }: Parameters): Promise<Figure> {
  const index = new PredicateIndex<number>();
  const byKey = new Map<string, number>();
  for (let n = 0; n < shapes; n++) {
    index.add(compileWhere(kind.where, kind.params(n), table), n);
    byKey.set(keyOf(n), n);
  }
  assert.equal(index.unindexed, kind.shapesMax === undefined ? 0 : shapes);
  const rows = new Rows(changes, shapes);
  const seconds = await inTurn(rounds, {
    ours: () => secondsOf(() => assert.equal(found(index, rows), changes)),
    floor: () => secondsOf(() => assert.equal(lookedUp(byKey, rows.keys), changes)),
  });
  const nanoseconds = (name: keyof typeof seconds): number => (median(seconds[name]) / changes) * 1e9;
  return figure("ns_per_change", "ns", nanoseconds("ours"), nanoseconds("floor"), {
    conditions: { shapes, kind: kind.name, changes },
  });
}

const together = Array.from({ length: 16 }, () => new Tuple());

/** As the registry does it: some rows together, and what the index is not sure of is checked. */
function found(index: PredicateIndex<number>, rows: Rows): number {
  let count = 0;
  let row = together[0]!;
  const visit = (candidate: Candidate<number>): void => {
    if (candidate.holds(row)) count++;
  };
  for (let from = 0; from < rows.count; from += together.length) {
    const here = Math.min(together.length, rows.count - from);
    for (let i = 0; i < here; i++) rows.show(from + i, together[i]!);
    index.expect(together, here);
    for (let i = 0; i < here; i++) index.candidates((row = together[i]!), i, visit);
  }
  return count;
}
