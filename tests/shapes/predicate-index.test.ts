import assert from "node:assert/strict";
import { before, test } from "node:test";
import { compileWhere, everything, both, loadParser, nothing, type Predicate } from "../../engine/shapes/where.ts";
import { PredicateIndex } from "../../engine/shapes/predicate-index.ts";
import type { Tuple } from "../../engine/changes/tuple.ts";
import { column, enumColumn, tableOf } from "./table.ts";
import { Conditions, Random, type SampleColumn, tupleOf } from "./generate.ts";

const table = tableOf([
  column("id", "int8"),
  column("small", "int4"),
  column("amount", "numeric"),
  column("name", "text"),
  column("code", "bpchar"),
  column("paid", "bool"),
  enumColumn("status", "public.order_status", ["new", "done", "x"]),
]);

const samples: readonly SampleColumn[] = [
  { name: "id", type: "int8", family: "number", values: ["1", "2", "3", "10"] },
  { name: "small", type: "int4", family: "number", values: ["1", "2", "-1"] },
  { name: "amount", type: "numeric", family: "number", values: ["1", "1.0", "1.00", "0.10", "100", "NaN"] },
  { name: "name", type: "text", family: "text", values: ["", "a", "b", "ä"] },
  { name: "code", type: "bpchar", family: "bpchar", values: ["a", "a ", "b"] },
  { name: "paid", type: "bool", family: "boolean", values: ["t", "f"] },
  { name: "status", type: "public.order_status", family: "enum", values: ["new", "done"], isOrdered: false },
];

before(loadParser);

function visited(index: PredicateIndex<number>, row: Tuple): { value: number; needsCheck: boolean }[] {
  const visits: { value: number; needsCheck: boolean }[] = [];
  index.candidates(row, (value, needsCheck) => visits.push({ value, needsCheck }));
  return visits;
}

function rowOf(values: Readonly<Record<string, string>>): Tuple {
  return tupleOf(table.columns.map(({ name }) => values[name] ?? null));
}

for (const seed of [1, 2, 3, 4, 5]) {
  test(`after any adds and deletes, candidates that pass their check are those that hold (seed ${seed})`, () => {
    const random = new Random(seed);
    const predicates = accepted(new Conditions(random, samples), 600);
    const index = new PredicateIndex<number>();
    const present = new Map<number, Predicate>();
    for (let step = 0; step < 3000; step++) {
      const value = random.below(predicates.length);
      toggle(index, present, value, predicates[value]!);
      if (step % 10 === 0) assertAgrees(index, present, randomRow(random));
    }
    for (const [value, predicate] of present) index.delete(predicate, value);
    assert.equal(index.unindexed, 0);
    assert.deepEqual(visited(index, randomRow(random)), []);
  });
}

function accepted(conditions: Conditions, count: number): Predicate[] {
  const rules = ["id = 1", "paid", "amount > 0"].map((rule) => compileWhere(rule, [], table));
  const predicates: Predicate[] = [everything, nothing];
  while (predicates.length < count) {
    const { where, params } = conditions.next();
    const predicate = compiled(where, params);
    if (predicate) predicates.push(predicate, both(rules[predicates.length % 3]!, predicate));
  }
  return predicates;
}

function compiled(where: string, params: readonly unknown[]): Predicate | undefined {
  try {
    return compileWhere(where, params, table);
  } catch {
    return undefined;
  }
}

function toggle(
  index: PredicateIndex<number>,
  present: Map<number, Predicate>,
  value: number,
  predicate: Predicate,
): void {
  if (present.delete(value)) return index.delete(predicate, value);
  present.set(value, predicate);
  index.add(predicate, value);
}

function randomRow(random: Random): Tuple {
  return tupleOf(
    samples.map(({ name, values }) =>
      random.chance(20) ? null : name === "code" ? random.of(values).padEnd(4) : random.of(values),
    ),
  );
}

function assertAgrees(index: PredicateIndex<number>, present: ReadonlyMap<number, Predicate>, row: Tuple): void {
  const visits = visited(index, row);
  assert.equal(new Set(visits.map(({ value }) => value)).size, visits.length, "each value is visited at most once");
  const found = visits
    .filter(({ value, needsCheck }) => !needsCheck || present.get(value)!.matches(row) === true)
    .map(({ value }) => value);
  const expected = [...present].filter(([, predicate]) => predicate.matches(row) === true).map(([value]) => value);
  assert.deepEqual(found.sort(byNumber), expected.sort(byNumber));
}

function byNumber(a: number, b: number): number {
  return a - b;
}

test("an equality is found without a check, among others that are not visited", () => {
  const index = new PredicateIndex<number>();
  for (let id = 0; id < 1000; id++) index.add(compileWhere("id = $1", [id], table), id);
  assert.deepEqual(visited(index, rowOf({ id: "7" })), [{ value: 7, needsCheck: false }]);
  assert.deepEqual(visited(index, rowOf({ id: "1000" })), []);
  assert.equal(index.unindexed, 0);
});

test("numbers that are equal under different texts meet", () => {
  const index = new PredicateIndex<number>();
  index.add(compileWhere("amount = 1.50", [], table), 1);
  for (const amount of ["1.5", "1.50", "1.500"]) assert.equal(visited(index, rowOf({ amount })).length, 1);
  assert.equal(visited(index, rowOf({ amount: "15" })).length, 0);
});

test("a conjunction is filed under its most telling equality and checked there", () => {
  const index = new PredicateIndex<number>();
  index.add(compileWhere("paid AND status IN ('new', 'done') AND id = 1 AND amount > 5", [], table), 1);
  assert.deepEqual(visited(index, rowOf({ id: "2", paid: "t", status: "new" })), []);
  assert.deepEqual(visited(index, rowOf({ id: "1" })), [{ value: 1, needsCheck: true }]);
});

test("a disjunction is filed under all its sides and visited once", () => {
  const index = new PredicateIndex<number>();
  index.add(compileWhere("id = 1 OR name = 'a' OR small IN (4, 5)", [], table), 1);
  assert.equal(index.unindexed, 0);
  assert.deepEqual(visited(index, rowOf({ id: "1", name: "a", small: "4" })), [{ value: 1, needsCheck: false }]);
  assert.deepEqual(visited(index, rowOf({ id: "2", name: "a" })), [{ value: 1, needsCheck: false }]);
});

test("two sides of a disjunction under one equality count once", () => {
  const index = new PredicateIndex<number>();
  const predicate = compileWhere("id = 1 AND paid OR id = 1 AND name = 'a'", [], table);
  index.add(predicate, 1);
  assert.deepEqual(visited(index, rowOf({ id: "1" })), [{ value: 1, needsCheck: true }]);
  index.delete(predicate, 1);
  assert.deepEqual(visited(index, rowOf({ id: "1" })), []);
});

test("what has no equality is tried for every row, until it is deleted", () => {
  const index = new PredicateIndex<number>();
  const range = compileWhere("amount > 5 OR id = 1", [], table);
  index.add(range, 1);
  index.add(everything, 2);
  assert.equal(index.unindexed, 2);
  assert.deepEqual(visited(index, rowOf({})), [
    { value: 1, needsCheck: true },
    { value: 2, needsCheck: false },
  ]);
  index.delete(range, 1);
  assert.equal(index.unindexed, 1);
});

test("a predicate that can never hold is never visited", () => {
  const index = new PredicateIndex<number>();
  index.add(nothing, 1);
  index.add(compileWhere("id = NULL AND paid", [], table), 2);
  assert.deepEqual(visited(index, rowOf({ id: "1", paid: "t" })), []);
});

test("two values under one equality are both visited, and one stays when the other goes", () => {
  const index = new PredicateIndex<number>();
  const predicate = compileWhere("id = 1", [], table);
  for (const value of [1, 2, 3]) index.add(predicate, value);
  index.delete(predicate, 2);
  assert.deepEqual(
    visited(index, rowOf({ id: "1" })).map(({ value }) => value),
    [1, 3],
  );
});
