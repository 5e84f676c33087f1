/** What a client asked for, a rule and a table → a shape, or a refusal. */
import assert from "node:assert/strict";
import { before, test } from "node:test";
import type { Table } from "../../engine/changes/table.ts";
import type { ShapeRequest } from "../../engine/protocol.ts";
import { describeShape, readRule, resolveShape, selectSql, type Shape } from "../../engine/shapes/shape.ts";
import { loadParser } from "../../engine/shapes/where.ts";
import { sql } from "../../engine/sql.ts";
import { column, tableOf } from "./table.ts";

before(() => loadParser());

const orders = tableOf([
  column("id", "int4", { notNull: true }),
  column("customer", "int4"),
  column("status", "text"),
  column('a"b', "text"),
]);

function shape(
  request: Partial<ShapeRequest>,
  table: Table = orders,
  options: { rule?: ReturnType<typeof sql>; readable?: string[]; changes?: boolean } = {},
): Shape {
  return resolveShape(
    { table: "orders", ...request },
    table,
    options.rule ?? true,
    options.readable,
    options.changes ?? false,
  );
}

const same: readonly (readonly [string, Partial<ShapeRequest>, Partial<ShapeRequest>])[] = [
  [
    "spaces, cases of keywords and sides",
    { where: "customer = 1 AND status = 'x'" },
    { where: "'x' = status and(customer=1)" },
  ],
  ["a parameter for a literal", { where: "customer = 1" }, { where: "customer = $1", params: [1] }],
  ["the order of columns, and one named twice", { columns: ["status", "id"] }, { columns: ["id", "status", "id"] }],
];
for (const [what, one, other] of same) {
  test(`requests that differ in ${what} make one shape`, () => {
    assert.equal(shape(one).key, shape(other).key);
  });
}

test("what takes long to read is read once, for each rule and each set of columns that may be read", () => {
  const request = { where: "customer = ANY($1)", params: [Array.from({ length: 500 }, (_, i) => i)] };
  const { node } = shape(request);
  assert.equal(shape(structuredClone(request)).node, node);
  assert.equal(shape(structuredClone(request)).predicate.node, node);
  assert.notEqual(shape({ ...request, params: [[...request.params[0]!, 500]] }).node, node);
  assert.notEqual(shape(request, orders, { rule: sql`status = 'x'` }).node, node);
  assert.notEqual(shape(request, { ...orders }).node, node);
  assert.throws(() => shape(request, orders, { readable: ["id"] }), { code: "unknown_column" });
});

test("shapes that differ in anything that a client could see have different keys", () => {
  const keys = [
    shape({}),
    shape({}, orders, { changes: true }),
    shape({ columns: ["id"] }),
    // Today the same columns; the first has tomorrow's too.
    shape({ columns: ["id", "customer", "status", 'a"b'] }),
    shape({ where: "customer = 1" }),
    shape({ where: "customer = 2" }),
    shape({}, { ...orders, version: "2" }),
    shape({}, { ...orders, oid: 2 }),
    shape({}, orders, { rule: sql`customer = ${1} and status = ${"x"}` }),
  ].map(({ key }) => key);
  assert.equal(new Set(keys).size, keys.length);
});

test("a rule that says the same as a where makes the same shape, and claims make different ones", () => {
  const ruled = (customer: number): string => shape({}, orders, { rule: sql`customer = ${customer}` }).key;
  assert.equal(ruled(1), shape({ where: "customer = 1" }).key);
  assert.notEqual(ruled(1), ruled(2));
});

test("a shape stays what it was, whatever its maker does with the values afterwards and whichever is asked about in between", () => {
  const params = [[1, 2], "x"];
  const rule = sql`status = ${"y"}`;
  const one = shape({ where: "customer = any($1) AND status <> $2", params }, orders, { rule });
  const before = selectSql(one);
  params[0] = [3];
  (rule.params as unknown[])[0] = "z";
  assert.notEqual(selectSql(shape({ where: "customer = any($1) AND status <> $2", params }, orders, { rule })), before);
  assert.deepEqual([selectSql(one), one.at(orders).key, one.at({ ...orders }).key], [before, one.key, one.key]);
});

test("the rows are selected by names and conditions that mean the same under any settings", () => {
  assert.equal(selectSql(shape({ columns: ["id", 'a"b'] })), 'SELECT "id", "a""b" FROM "public"."orders"');
  assert.match(
    selectSql(shape({ where: "customer = 1" })),
    /^SELECT .* FROM "public"\."orders" WHERE .*"customer".*pg_catalog/,
  );
});

test("the description has the columns asked for in the table's order, and the key in its own", () => {
  const { columns, key } = describeShape(shape({ columns: ["status", "customer", "id"] }, { ...orders, key: [1, 0] }));
  assert.deepEqual(columns, [
    { name: "id", type: "int4", notNull: true },
    { name: "customer", type: "int4", notNull: false },
    { name: "status", type: "text", notNull: false },
  ]);
  assert.deepEqual(key, ["customer", "id"]);
});

const byKey: Table = { ...orders, replicaIdentity: "d", identityColumns: [0] };
const refusals: readonly (readonly [string, () => Shape, string])[] = [
  ["a table without a key", () => shape({}, { ...orders, key: [] }), "table_without_key"],
  ["columns without the key", () => shape({ columns: ["status"] }), "columns_without_key"],
  ["a column that is not there", () => shape({ columns: ["id", "prize"] }), "unknown_column"],
  [
    "a column that may not be read",
    () => shape({ columns: ["id", "status"] }, orders, { readable: ["id"] }),
    "unknown_column",
  ],
  [
    "a predicate over a column that may not be read",
    () => shape({ where: "status = 'x'" }, orders, { readable: ["id"] }),
    "unknown_column",
  ],
  [
    "a predicate beyond the replica identity",
    () => shape({ where: "status = 'x'" }, byKey),
    "replica_identity_missing",
  ],
  [
    "a rule beyond the replica identity",
    () => shape({}, byKey, { rule: sql`customer = ${1}` }),
    "replica_identity_missing",
  ],
  ["old rows beyond the replica identity", () => shape({}, byKey, { changes: true }), "replica_identity_missing"],
  [
    "anything without a replica identity",
    () => shape({}, { ...orders, replicaIdentity: "n", identityColumns: [] }),
    "replica_identity_missing",
  ],
];
for (const [what, run, code] of refusals) {
  test(`${what} is refused`, () => {
    assert.throws(run, { code });
  });
}

test("a predicate within the replica identity is served without FULL", () => {
  assert.deepEqual(shape({ where: "id > 5" }, byKey).predicate.columns, [0]);
});

test("a rule may read what the client may not", () => {
  const ruled = shape({}, orders, { rule: sql`status = ${"x"}`, readable: ["id", "customer"] });
  assert.deepEqual([ruled.columns, ruled.predicate.columns], [[0, 1], [2]]);
});

const answers: readonly (readonly [what: string, answer: unknown, allowed: boolean])[] = [
  ["true", true, true],
  ["a condition", sql`status = ${"x"}`, true],
  ["a promise of one", Promise.resolve(sql`status = ${"x"}`), true],
  ["false", false, false],
  ["nothing", undefined, false],
  ["null", null, false],
  ["text", "status = 'x'", false],
  ["a number", 1, false],
  ["what a claim may look like", { text: "true", params: [] }, false],
];
for (const [what, answer, allowed] of answers) {
  test(`a rule that says ${what} allows ${allowed ? "what it says" : "nothing"}`, async () => {
    const rule = { read: () => answer as boolean };
    assert.equal((await readRule(rule, { claims: {}, scopes: [] })) !== false, allowed);
  });
}
