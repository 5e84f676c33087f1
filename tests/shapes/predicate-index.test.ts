import assert from "node:assert/strict";
import { before, test } from "node:test";
import fc from "fast-check";
import {
  compileWhere,
  everything,
  both,
  loadParser,
  nothing,
  type Predicate,
  predicateFrom,
} from "../../engine/shapes/where.ts";
import { and, test as testNode } from "../../engine/shapes/where/node.ts";
import { PredicateIndex } from "../../engine/shapes/predicate-index.ts";
import type { Tuple } from "../../engine/changes/tuple.ts";
import { thorough } from "../support/thorough.ts";
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
  index.expect([row], 1);
  index.candidates(row, 0, (candidate) => {
    const { needsCheck, value } = candidate;
    visits.push({ value, needsCheck });
  });
  return visits;
}

/** As the registry does it: the row may be one of several that are looked up together. */
function found(index: PredicateIndex<number>, row: Tuple, others: readonly Tuple[] = []): number[] {
  const values: number[] = [];
  index.expect([...others, row, ...others], others.length * 2 + 1);
  index.candidates(row, others.length, (candidate) => {
    if (candidate.holds(row)) values.push(candidate.value);
  });
  return values;
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
      if (step % 10 > 0) continue;
      assertAgrees(index, present, randomRow(random), [randomRow(random), randomRow(random)].slice(random.below(3)));
    }
    for (const [value, predicate] of present) index.delete(predicate, value);
    assert.equal(index.unindexed, 0);
    assert.deepEqual(visited(index, randomRow(random)), []);
  });
}

test("lists of thousands are found at any moment while they are filed and taken out, in turns that are short", async () => {
  const index = new PredicateIndex<number>();
  const lists = Array.from({ length: 20 }, (_, value) =>
    compileWhere("id = ANY($1) OR small = $2", [Array.from({ length: 3_000 }, (_, i) => i * 20 + value), value], table),
  );
  const present = new Map<number, Predicate>();
  const check = (): void => {
    for (const id of [0, 8, 9, 19, 20, 59_999, 60_000])
      assertAgrees(index, present, rowOf({ id: String(id), small: "3" }));
  };
  const turns = async (count: number): Promise<void> => {
    for (let i = 0; i < count; i++) {
      await new Promise((resolve) => setImmediate(resolve));
      check();
    }
  };
  for (const value of lists.keys()) toggle(index, present, value, lists[value]!);
  check();
  while (index.unindexed > 18) await turns(1);
  // One of these is filed, one is on its way, one waits, and one comes back.
  for (const value of [8, 9, 19, 9, 0]) toggle(index, present, value, lists[value]!);
  check();
  await turns(5);
  while (index.unindexed > 8) await turns(1);
  assert.ok(visited(index, rowOf({ id: "1", small: "0" })).length < 10);
  for (const [value, predicate] of present) index.delete(predicate, value);
  assert.equal(index.unindexed, 0);
  assert.deepEqual(visited(index, rowOf({ id: "7", small: "3" })), []);
});

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

function assertAgrees(
  index: PredicateIndex<number>,
  present: ReadonlyMap<number, Predicate>,
  row: Tuple,
  others?: readonly Tuple[],
): void {
  const visits = visited(index, row);
  assert.equal(new Set(visits.map(({ value }) => value)).size, visits.length, "each value is visited at most once");
  const expected = [...present].filter(([, predicate]) => predicate.matches(row) === true).map(([value]) => value);
  assert.deepEqual(found(index, row, others).sort(byNumber), expected.sort(byNumber));
}

function byNumber(a: number, b: number): number {
  return a - b;
}

// ── Against asking every predicate ───────────────────────────────────────────────────────────────────────────────────

const numbers = fc.constantFrom("-1", "0", "0.10", "1", "1.0", "1.000000000000000000001", "2", "10", "NaN", "Infinity");
const longs = fc.constantFrom("9007199254740993", "9007199254740992", "9007199254740994", "-9223372036854775808", "1");
const texts = fc.constantFrom("", "a", "ab", "same start", "same start 1", "same start 2", "ä", "€");
const moments = fc.constantFrom("-infinity", "3000-03-15 12:00:00 BC", "2026-11-21 12:00:00", "2026-11-21 12:00:00.5");
const laterMoments = fc.constantFrom("2026-12-01 00:00:00", "12026-01-01 00:00:00", "infinity");
const asked = {
  id: longs,
  amount: numbers,
  name: texts,
  at: fc.oneof(moments, laterMoments),
  paid: fc.constantFrom("t", "f"),
} as const;
type Asked = keyof typeof asked;
const askedTable = tableOf([
  column("id", "int8"),
  column("amount", "numeric"),
  column("name", "text"),
  column("at", "timestamp"),
  column("paid", "bool"),
]);

function conditionOf(...operators: readonly string[]): fc.Arbitrary<string> {
  const columns = fc.constantFrom(...(Object.keys(asked) as Asked[]));
  return fc
    .tuple(columns, fc.constantFrom(...operators))
    .chain(([name, operator]) => fc.tuple(asked[name], asked[name]).map((values) => written(name, operator, values)));
}

function written(name: Asked, operator: string, [a, b]: readonly [string, string]): string {
  const subject = name === "name" ? `name COLLATE "C"` : name;
  if (operator.endsWith("NULL")) return `${name} ${operator}`;
  if (operator === "IN") return `${name} IN ('${a}', '${b}')`;
  return operator === "BETWEEN" ? `${subject} BETWEEN '${a}' AND '${b}'` : `${subject} ${operator} '${a}'`;
}

const equality = conditionOf("=", "IN", "IS NULL");
const range = conditionOf("<", "<=", ">", ">=", "BETWEEN");
const residue = conditionOf("<>", "IS NOT NULL");
const mixed = fc.oneof(equality, range, residue);
const side = fc.array(mixed, { minLength: 1, maxLength: 3 }).map((parts) => `(${parts.join(" AND ")})`);
const kinds = {
  "equalities on several columns": fc.array(equality, { minLength: 1, maxLength: 3 }).map((all) => all.join(" AND ")),
  ranges: fc.array(range, { minLength: 1, maxLength: 3 }).map((parts) => parts.join(" AND ")),
  "equalities with ranges": fc.tuple(equality, range, range).map((parts) => parts.join(" AND ")),
  "disjunctions of all of them": fc.array(side, { minLength: 1, maxLength: 3 }).map((sides) => sides.join(" OR ")),
};
const rows = fc.record(
  Object.fromEntries(Object.entries(asked).map(([name, value]) => [name, fc.option(value)])) as {
    [Name in Asked]: fc.Arbitrary<string | null>;
  },
);

for (const [kind, where] of Object.entries(kinds)) {
  test(`whatever comes and goes, the index finds what asking every predicate finds: ${kind}`, () => {
    const steps = fc.array(fc.oneof({ weight: 3, arbitrary: fc.nat(39) }, rows), { minLength: 20, maxLength: 120 });
    fc.assert(
      fc.property(fc.array(where, { minLength: 5, maxLength: 40 }), steps, (wheres, all) => follow(wheres, all)),
      { numRuns: thorough(60, 15) },
    );
  });
}

/** A number adds or deletes that predicate; a row is asked about. In the end nothing is left. */
function follow(wheres: readonly string[], steps: readonly (number | { [Name in Asked]: string | null })[]): void {
  const predicates = wheres.map((where) => compileWhere(where, [], askedTable));
  const index = new PredicateIndex<number>();
  const present = new Map<number, Predicate>();
  for (const step of steps) {
    if (typeof step === "number")
      toggle(index, present, step % predicates.length, predicates[step % predicates.length]!);
    else assertAgrees(index, present, tupleOf(askedTable.columns.map(({ name }) => step[name as Asked])));
  }
  for (const [value, predicate] of present) index.delete(predicate, value);
  for (const step of steps)
    if (typeof step !== "number")
      assert.deepEqual(visited(index, tupleOf(askedTable.columns.map(({ name }) => step[name as Asked]))), []);
}

// ── Among thousands, so that what the index is made of grows, splits, joins and shrinks ────────────────────────────────

const crowdTable = tableOf([
  column("id", "int8"),
  column("owner", "uuid"),
  column("name", "text"),
  column("amount", "numeric"),
]);

/** Few values of many lengths: neighbours, equal beginnings, and more digits than a double holds. */
class Crowd {
  private readonly random: Random;

  constructor(random: Random) {
    this.random = random;
  }

  get id(): string {
    return String(this.random.below(40));
  }

  get owner(): string {
    return `3f1c2a4e-0b5d-4c6e-8f70-${this.random.below(400).toString(16).padStart(12, "0")}`;
  }

  get name(): string {
    return this.random.of(["", "a", "a long name that no slot has room for"]) + this.random.below(60).toString(36);
  }

  get amount(): string {
    const whole = this.random.below(300) - 100;
    return this.random.of([`${whole}`, `${whole}.5`, `${whole}.00000000000000000${this.random.below(3)}`]);
  }

  get range(): string {
    const [low, high] = [this.amount, this.amount];
    return this.random.of([
      `amount >= ${low} AND amount < ${high}`,
      `amount > ${low} AND amount <= ${Number(low) + this.random.below(9)}`,
      `amount BETWEEN ${low} AND ${low}`,
      `amount > ${low}`,
      `name COLLATE "C" >= '${this.name}' AND name COLLATE "C" <= '${this.name}'`,
    ]);
  }
}

const crowds: Readonly<Record<string, (crowd: Crowd) => string>> = {
  "keys of any length": (crowd) => `owner = '${crowd.owner}' AND name = '${crowd.name}'`,
  ranges: (crowd) => crowd.range,
  "ranges under few keys": (crowd) => `id = ${Number(crowd.id) % 3} AND ${crowd.range}`,
  "ranges under many keys": (crowd) => `owner = '${crowd.owner}' AND ${crowd.range}`,
  beginnings: (crowd) => {
    const start = crowd.name.slice(0, -1);
    return [`name LIKE '${crowd.name}%'`, `name LIKE '${crowd.name}_%'`, `starts_with(name, '${start}')`][
      Number(crowd.id) % 3
    ]!;
  },
  "lists of more combinations than are filed": (crowd) => {
    const list = (next: () => string): string => Array.from({ length: 9 }, () => `'${next()}'`).join(", ");
    return `id IN (${list(() => crowd.id)}) AND name IN (${list(() => crowd.name)}) AND amount <> ${crowd.amount}`;
  },
  "either of several": (crowd) =>
    `${crowd.range} OR id = ${crowd.id} AND name <> '${crowd.name}' OR name = '${crowd.name}'`,
};

for (const [kind, where] of Object.entries(crowds)) {
  test(`thousands that come and go are found as asking each of them finds them: ${kind}`, () => {
    const random = new Random(7);
    const crowd = new Crowd(random);
    const predicates = Array.from({ length: 800 }, () => compileWhere(where(crowd), [], crowdTable));
    const index = new PredicateIndex<number>();
    const present = new Map<number, Predicate>();
    const row = (): Tuple => tupleOf([crowd.id, crowd.owner, crowd.name, crowd.amount]);
    for (const wanted of [800, 300, 700, 20, 500, 0]) {
      while (present.size !== wanted) {
        const value = random.below(predicates.length);
        if (present.has(value) === present.size > wanted) toggle(index, present, value, predicates[value]!);
        if (random.chance(1)) assertAgrees(index, present, row());
      }
      for (let i = 0; i < 20; i++) assertAgrees(index, present, row());
    }
    assert.deepEqual(visited(index, row()), []);
  });
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

test("a conjunction is filed under all its equalities and a range, and what is left of it is checked", () => {
  const index = new PredicateIndex<number>();
  index.add(compileWhere("paid AND status IN ('new', 'done') AND id = 1 AND amount > 5", [], table), 1);
  index.add(compileWhere("id = 1 AND amount > 5 AND name <> 'a'", [], table), 2);
  const row = { id: "1", paid: "t", status: "new", amount: "6" };
  assert.deepEqual(visited(index, rowOf(row)), [
    { value: 1, needsCheck: false },
    { value: 2, needsCheck: true },
  ]);
  assert.deepEqual(visited(index, rowOf({ ...row, id: "2" })), []);
  assert.deepEqual(visited(index, rowOf({ ...row, amount: "5" })), []);
  assert.deepEqual(visited(index, rowOf({ ...row, paid: "f" })), [{ value: 2, needsCheck: true }]);
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
  const predicate = compileWhere("id = 1 AND amount <> 3 OR id = 1 AND name <> 'a'", [], table);
  index.add(predicate, 1);
  assert.deepEqual(visited(index, rowOf({ id: "1" })), [{ value: 1, needsCheck: true }]);
  index.delete(predicate, 1);
  assert.deepEqual(visited(index, rowOf({ id: "1" })), []);
});

test("what no index serves is tried for every row and counted, until it is deleted", () => {
  const index = new PredicateIndex<number>();
  const other = compileWhere("amount <> 5 OR id = 1", [], table);
  index.add(other, 1);
  index.add(everything, 2);
  assert.equal(index.unindexed, 1);
  assert.deepEqual(visited(index, rowOf({})), [
    { value: 1, needsCheck: true },
    { value: 2, needsCheck: false },
  ]);
  index.delete(other, 1);
  assert.equal(index.unindexed, 0);
});

test("an equality on two columns leads to the one that asks for both, among thousands that share either", () => {
  const index = new PredicateIndex<number>();
  const pair = (n: number): Predicate =>
    compileWhere("id = $1 AND name = $2", [n % 50, `name ${Math.floor(n / 50)}`], table);
  for (let n = 0; n < 2500; n++) index.add(pair(n), n);
  assert.deepEqual(visited(index, rowOf({ id: "7", name: "name 3" })), [{ value: 157, needsCheck: false }]);
  index.delete(pair(157), 157);
  assert.deepEqual(visited(index, rowOf({ id: "7", name: "name 3" })), []);
  assert.deepEqual(visited(index, rowOf({ id: "7", name: "name 4" })), [{ value: 207, needsCheck: false }]);
});

test("values of two columns are not mistaken for others that read alike side by side, nor NULL for nothing", () => {
  const index = new PredicateIndex<number>();
  const wheres = ["name = 'a' AND code = 'b'", "name = 'ab' AND code = ''", "name = '' AND code IS NULL"];
  wheres.forEach((where, n) => index.add(compileWhere(where, [], table), n));
  const values = (row: Readonly<Record<string, string>>): number[] =>
    visited(index, rowOf(row)).map(({ value }) => value);
  assert.deepEqual(values({ name: "a", code: "b   " }), [0]);
  assert.deepEqual(values({ name: "ab", code: "    " }), [1]);
  assert.deepEqual(values({ name: "", code: "ab" }), []);
  assert.deepEqual(values({ name: "" }), [2]);
  index.add(compileWhere("name = $1 AND code = ''", ["a\u0001b\u0001"], table), 3);
  assert.deepEqual(values({ name: "a", code: "b\u0001  " }), []);
  assert.deepEqual(values({}), []);
});

test("of many ranges, those that a value lies in are visited without a check, bounds as they are meant", () => {
  const index = new PredicateIndex<number>();
  for (let n = 0; n < 1000; n++) {
    index.add(compileWhere("amount BETWEEN $1 AND $2", [n * 10, n * 10 + 10], table), n);
    index.add(compileWhere("amount > $1 AND amount < $2", [n * 10, n * 10 + 10], table), 1000 + n);
  }
  const at = (amount: string): number[] =>
    visited(index, rowOf({ amount }))
      .map(({ value, needsCheck }) => (needsCheck ? -1 : value))
      .sort(byNumber);
  assert.deepEqual(at("50"), [4, 5]);
  assert.deepEqual(at("50.000000000000000000000001"), [5, 1005]);
  assert.deepEqual(at("-0.1"), []);
  assert.deepEqual(at("NaN"), []);
  assert.equal(index.unindexed, 0);
});

test("ranges over values that differ only far behind their beginning are told apart", () => {
  const index = new PredicateIndex<number>();
  const name = (n: number): string => `the same beginning ${String(n).padStart(4, "0")}`;
  for (let n = 0; n < 500; n++)
    index.add(compileWhere(`name COLLATE "C" >= $1 AND name COLLATE "C" < $2`, [name(n), name(n + 1)], table), n);
  for (const n of [0, 77, 499])
    assert.deepEqual(visited(index, rowOf({ name: name(n) })), [{ value: n, needsCheck: false }]);
  assert.deepEqual(visited(index, rowOf({ name: name(500) })), []);
});

test("what begins in a certain way is found by that, and checked where the pattern asks for more", () => {
  const index = new PredicateIndex<number>();
  const wheres = [
    "name LIKE 'ab%'",
    "name LIKE 'ab%d'",
    "name LIKE 'a\\_%'",
    "starts_with(name, 'ä')",
    "name LIKE 'ab'",
  ];
  wheres.forEach((where, value) => index.add(compileWhere(where, [], table), value));
  assert.equal(index.unindexed, 0);
  const at = (name: string): unknown[] =>
    visited(index, rowOf({ name })).map(({ value, needsCheck }) => `${value}${needsCheck ? "?" : ""}`);
  assert.deepEqual(at("abcd"), ["0", "1?", "4?"]);
  assert.deepEqual(at("a_"), ["2"]);
  assert.deepEqual(at("ä€"), ["3"]);
  assert.deepEqual([at("a"), at("ac"), at("b"), visited(index, rowOf({}))], [[], [], [], []]);
  index.add(compileWhere("NOT name LIKE 'ab%'", [], table), 5);
  index.add(compileWhere("name LIKE '%ab'", [], table), 6);
  assert.equal(index.unindexed, 2);
});

test("what predicates ask beyond their places is asked once for a row, however many have it and wherever they lie", () => {
  let asked = 0;
  const answer = (): boolean => (asked++, true);
  const counting = testNode({ columns: [3], answer, mayFail: false }, "name ~ 'a'", "name !~ 'a'");
  const wheres = ["id = 1", "id = 2", "amount > 5", "id IN (1, 7)", "paid", "name <> 'b' AND id = 1"];
  const predicates = wheres.map((where) =>
    predicateFrom({ node: and([compileWhere(where, [], table).node, counting]) }),
  );
  const index = new PredicateIndex<number>();
  predicates.forEach((predicate, value) => index.add(predicate, value));
  const row = rowOf({ id: "1", amount: "6", paid: "t", name: "a" });
  assert.deepEqual(found(index, row).sort(byNumber), [0, 2, 3, 4, 5]);
  // Once for the last one too, which asks for something else besides.
  assert.equal(asked, 2);
  assert.deepEqual(found(index, rowOf({ id: "2" })), [1]);
  assert.equal(asked, 3);
  index.add(predicateFrom({ node: counting }), 6);
  index.add(predicateFrom({ node: counting }), 7);
  assert.equal(index.unindexed, 1);
});

test("when more combinations of columns are asked for than are looked up, the others are still found", () => {
  const names = Array.from({ length: 12 }, (_, i) => `c${i}`);
  const wide = tableOf(names.map((name) => column(name, "int8")));
  const index = new PredicateIndex<number>();
  const present = new Map<number, Predicate>();
  const combinations = Array.from({ length: 300 }, (_, n) => names.filter((_name, i) => ((n + 1) >> i) & 1));
  combinations.forEach((chosen, n) =>
    toggle(index, present, n, compileWhere(chosen.map((name) => `${name} = 1`).join(" AND "), [], wide)),
  );
  const row = tupleOf(names.map((_, i) => (i === 5 ? "2" : "1")));
  assertAgrees(index, present, row);
  for (const n of [...present.keys()].reverse()) toggle(index, present, n, present.get(n)!);
  assert.deepEqual(visited(index, row), []);
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
