import assert from "node:assert/strict";
import { before, test } from "node:test";
import { type ErrorCode, WalcastError } from "../../engine/errors.ts";
import {
  both,
  compileWhere,
  EvaluationFailed,
  everything,
  loadParser,
  nothing,
  selection,
} from "../../engine/shapes/where.ts";
import { column, enumColumn, tableOf } from "./table.ts";
import { tupleOf } from "./generate.ts";

const table = tableOf([
  column("id", "int8"),
  column("small", "int2"),
  column("name", "text"),
  column("code", "text", { collation: { schema: "pg_catalog", name: "C", deterministic: true, isC: true } }),
  column("loose", "text", { collation: { schema: "public", name: "ci", deterministic: false, isC: false } }),
  column("paid", "bool"),
  column("amount", "numeric"),
  column("at", "timestamptz"),
  column("due", "date"),
  column("owner", "uuid"),
  enumColumn("status", "public.order_status", ["new", "shipped"]),
  column("weight", "float8"),
  column("took", "interval"),
  column("opens", "time"),
  column("raw", "bytea"),
  column("__proto__", "int4"),
  column("constructor", "text"),
  column('Sel"ect', "int4"),
  column("pair", "public.pair", { baseTypeKind: "c" }),
  column("tags", "text[]"),
  column("parents", "int8[]"),
  column("data", "jsonb"),
  column("more", "jsonb"),
]);

before(loadParser);

function row(values: Readonly<Record<string, string | null>>) {
  return tupleOf(table.columns.map(({ name }) => (Object.hasOwn(values, name) ? values[name]! : null)));
}

// ── Normal forms ─────────────────────────────────────────────────────────────────────────────────────────────────────

const equivalent: [string, string][] = [
  ["id = 1 AND name = 'b'", "'b' = name AND 1 = id"],
  ["id = 1 OR id = 2", "id IN (2, 1, 2)"],
  ["id IN (1, 2)", "id = ANY('{2, 1}')"],
  ["id IN (1, 2)", "id = ANY(ARRAY[2, 1])"],
  ["id <> 1 AND id <> 2", "NOT (id = 2 OR id = 1)"],
  ["id NOT IN (1, 2)", "id <> ALL('{1,2}'::int[])"],
  ["amount BETWEEN 1 AND 2", "amount <= 2.0 AND 1.00 <= amount"],
  ["NOT (amount BETWEEN 1 AND 2)", "amount NOT BETWEEN 1 AND 2"],
  ["paid", "paid = true"],
  ["NOT paid", "paid <> 't'"],
  ["NOT paid", "paid = false"],
  ["((id = 1 AND paid) AND name = 'x') AND paid", "id = 1 AND paid AND name = 'x'"],
  ["id = 1 AND 1 = 1", "id = 1"],
  ["id = 1 OR 1 = 2", "id = 1"],
  ["amount = 1", "amount = 1.000"],
  ["amount = 100", "amount = 1e2"],
  ["id = 1000000", "id = 1_000_000"],
  ["id = 255", "id = 0xff"],
  ["id = 7", "orders.id = 7"],
  ["id = 7", "public.orders.id = 7"],
  ["id = 7", "id OPERATOR(pg_catalog.=) 7"],
  ["owner = 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "owner = '{a0eebc999c0b4ef8bb6d6bb9bd380a11}'::uuid"],
  ["at = '2026-01-01 12:00+01'", "at = '2026-01-01T11:00:00.000Z'"],
  ["status = 'new'", "status = 'new'::order_status"],
  ["status = 'new'", "status = 'new'::public.order_status"],
  ["id IS NOT NULL", "NOT id IS NULL"],
  ["(id = 1) IS NULL", "(id = 1) IS UNKNOWN"],
  ["id = 1 + 1", "id = 2"],
  ["weight = 1.50", "weight = '1.5'"],
  ["weight = -0.0", "weight = 0"],
  ["took < 'P1Y2M'", "took < '1 year 2 mons'"],
  ["opens = '12:30'", "opens = '12:30:00.000'"],
  ["raw = '\\x4142'", "raw = 'AB'"],
  ["id = 2", "id = 1.5::int"],
  ["name = 'a'", "name::varchar = 'a'"],
  ["name NOT LIKE 'a%'", "NOT name LIKE 'a%'"],
  ["name LIKE 'a!%' ESCAPE '!'", "name LIKE 'a\\%'"],
  ["name OPERATOR(pg_catalog.~~) 'a'", "name LIKE 'a'"],
  ["name = 'a' || 'b'", "name = 'ab'"],
  ["id + small = 2", "2 = small + id"],
  ["amount = 1.50 * 2", "amount = 3"],
  ["tags @> '{a,b}'", "'{ \"a\", b }'::text[] <@ tags"],
  ["tags @> '{a,b}'", "tags @> ARRAY['a', 'b']"],
  ["tags && ARRAY['NULL', NULL]", "'{\"NULL\",null}' && tags"],
  ["NOT 7 = ANY(parents)", "7 <> ALL(parents)"],
  ["tags IS NULL", "NOT tags IS NOT NULL"],
  [`data @> '{"b": 1, "a": [1,  "\\u00e4"]}'`, `'{"a":[1,"ä"],"b":0,"b":1}' <@ data`],
  ["data @> '{\"a\": 1.50}' AND data <> '[1.0]'", "data <> '[1]' AND data @> '{\"a\": 1.5}'"],
  ["data -> 'a' -> 0 = '1e2'", "(data->'a')->0 = '100'::jsonb"],
  ["data #>> '{a,0}' = 'x'", "'x' = data #>> ARRAY['a', '0']"],
  ["id = 1 -- comment", "id = 1 /* comment /* nested */ */"],
];

for (const [left, right] of equivalent) {
  test(`${left} is the same shape as ${right}`, () => {
    assert.equal(compileWhere(left, [], table).canonical, compileWhere(right, [], table).canonical);
  });
}

const selectedAlike: [string, string][] = [
  ["id IS NOT DISTINCT FROM 1", "id = 1"],
  ["(id = 1) IS TRUE AND small > 2", "small > 2 AND id = 1"],
  ["1 / amount > 2 AND id = 1", "id = 1 AND 1 / amount > 2"],
];

for (const [left, right] of selectedAlike) {
  test(`${left} selects what ${right} does`, () => {
    const [a, b] = [left, right].map((where) => selection(compileWhere(where, [], table)).canonical);
    assert.equal(a, b);
  });
}

test("parameters give the same shape as the constants they stand for", () => {
  const literal = compileWhere("id IN (1, 2) AND status = 'new' AND NOT paid", [], table);
  const params = compileWhere("id = ANY($1) AND status = $2 AND paid = $3", [[2, "1"], "new", false], table);
  assert.equal(params.canonical, literal.canonical);
});

test("an array as a parameter is a constant of the type that it stands for", () => {
  const where = "parents && $1 AND tags @> $2 AND data ?| $2";
  const literal = "parents && '{1,NULL}' AND tags @> '{a,\"NULL\"}' AND data ?| '{a,\"NULL\"}'";
  const params = [
    [1, null],
    ["a", "NULL"],
  ];
  assert.equal(compileWhere(where, params, table).canonical, compileWhere(literal, [], table).canonical);
});

test("different constants are different shapes", () => {
  const texts = [
    "name = 'a'",
    "name = 'A'",
    "name = 'a '",
    "name = ''",
    "name IS NULL",
    "name <> 'a'",
    "constructor = 'a'",
    "id = 1",
    "small = 1",
  ];
  assert.equal(new Set(texts.map((text) => compileWhere(text, [], table).canonical)).size, texts.length);
});

test("the SQL names every operator, type and column beyond doubt", () => {
  const { sql } = compileWhere(`"Sel""ect" = 1 AND status = 'new' AND code < 'it''s \\'`, [], table);
  assert.equal(
    sql,
    `("Sel""ect" OPERATOR(pg_catalog.=) '1'::pg_catalog.int4 AND "code" OPERATOR(pg_catalog.<) E'it''s \\\\'::pg_catalog.text AND "status" OPERATOR(pg_catalog.=) 'new'::public.order_status)`,
  );
});

test("a predicate knows the columns it reads", () => {
  assert.deepEqual(compileWhere("paid AND (id = 1 OR weight IS NULL) AND due = due", [], table).columns, [0, 5, 8, 11]);
  assert.deepEqual(everything.columns, []);
});

function nested(depth: number): string {
  return "[".repeat(depth) + "]".repeat(depth);
}

// ── Answers ──────────────────────────────────────────────────────────────────────────────────────────────────────────

const answers: [where: string, values: Record<string, string | null>, answer: boolean | null][] = [
  ["id = 1", { id: "1" }, true],
  ["id = 1", { id: null }, null],
  ["NOT id = 1", { id: null }, null],
  ["id <> 1", { id: "2" }, true],
  ["id = NULL", { id: "1" }, null],
  ["id IN (1, NULL)", { id: "1" }, true],
  ["id IN (1, NULL)", { id: "2" }, null],
  ["id NOT IN (1, NULL)", { id: "1" }, false],
  ["id NOT IN (1, NULL)", { id: "2" }, null],
  ["id = ANY('{}')", { id: null }, false],
  ["id <> ALL('{}')", { id: null }, true],
  ["id = ANY(NULL)", { id: "1" }, null],
  ["id = 1 OR name = 'x'", { id: null, name: "x" }, true],
  ["id = 1 OR name = 'x'", { id: null, name: "y" }, null],
  ["id = 1 AND name = 'x'", { id: null, name: "y" }, false],
  ["id = 1 AND name = 'x'", { id: null, name: "x" }, null],
  ["(id = 1) IS TRUE", { id: null }, false],
  ["(id = 1) IS NOT TRUE", { id: null }, true],
  ["paid IS UNKNOWN", { paid: null }, true],
  ["paid IS FALSE", { paid: "f" }, true],
  ["paid", { paid: "t" }, true],
  ["id = 9007199254740993", { id: "9007199254740992" }, false],
  ["id > 9007199254740992", { id: "9007199254740993" }, true],
  ["small < 70000", { small: "32767" }, true],
  ["id = 1.5", { id: "1" }, false],
  ["amount = 1", { amount: "1.000" }, true],
  ["amount < 'NaN'", { amount: "Infinity" }, true],
  ["amount = 'nan'", { amount: "NaN" }, true],
  ["amount > -0.5", { amount: "-0.05" }, true],
  ["amount > -10", { amount: "-9" }, true],
  ["amount = id", { amount: "5.00", id: "5" }, true],
  ["due < '2026-01-01'", { due: "0044-03-15 BC" }, true],
  ["due > '9999-12-31'", { due: "10000-01-01" }, true],
  ["due < 'infinity'", { due: "5874897-12-31" }, true],
  ["at < '2026-01-01 00:00:00.1Z'", { at: "2026-01-01 00:00:00+00" }, true],
  ["name = ''", { name: "" }, true],
  ["code < 'b'", { code: "Z" }, true],
  ["name COLLATE \"C\" > 'z'", { name: "ä" }, true],
  ["loose COLLATE \"C\" = 'A'", { loose: "a" }, false],
  ["status IN ('new')", { status: "new" }, true],
  ['"__proto__" = 1', { ["__proto__"]: "1" }, true],
  ["constructor = 'x'", { constructor: "x" }, true],
  ["weight IS NULL", { weight: null }, true],
  ["id IS DISTINCT FROM 1", { id: null }, true],
  ["id IS NOT DISTINCT FROM small", { id: null, small: null }, true],
  ["(id, name) IS DISTINCT FROM (1, 'x')", { id: "1", name: "x" }, false],
  ["id BETWEEN SYMMETRIC 2 AND 1", { id: "1" }, true],
  ["tags @> '{b}'", { tags: '{a,"b"}' }, true],
  ["tags @> '{}'", { tags: "{}" }, true],
  ["tags @> '{NULL}'", { tags: "{NULL}" }, false],
  ["tags && '{\"NULL\"}'", { tags: '{NULL,"NULL"}' }, true],
  ["tags = '[0:1]={a,b}'", { tags: "{a,b}" }, false],
  ["tags = '{{a},{b}}'", { tags: "{{a},{b}}" }, true],
  ["'b' = ANY(tags)", { tags: "{a,NULL}" }, null],
  ["7 <= ALL(parents)", { parents: "[5:6]={7,8}" }, true],
  ["7 = ANY(parents)", { parents: "{}" }, false],
  ["id = ANY('{{1},{2}}')", { id: "2" }, true],
  ["name = ANY('{\u00a0a}')", { name: "\u00a0a" }, true],
  ["cardinality(tags) = 0", { tags: "{}" }, true],
  ["array_length(tags, 2) = 1", { tags: "{{a},{b}}" }, true],
  [`data @> '{"a": 1}'`, { data: '{"a": 1.0, "b": 2}' }, true],
  ["data @> '\"a\"'", { data: '["a", 1]' }, true],
  ["data -> 'a' @> '\"a\"'", { data: '{"a": [["a"]]}' }, false],
  ["(data ->> 'a')::int > 5", { data: '{"a": 7}' }, true],
  ["(data -> 'a')::text = '[1, \"x\"]'", { data: '{"a": [1, "x"]}' }, true],
  ["data ->> 'a' = '1.0'", { data: '{"a": 1.0}' }, true],
  ["data -> 'a' = '1'", { data: '{"a": 1.0}' }, true],
  ["data ->> 'a' IS NULL", { data: '{"a": null}' }, true],
  ["data -> 'a' IS NULL", { data: '{"a": null}' }, false],
  ["data ->> '__proto__' = 'x'", { data: '{"__proto__": "x"}' }, true],
  ["data -> -1 = '3'", { data: "[1, 2, 3]" }, true],
  ["data ? 'a\"'", { data: '{"a\\"": 1}' }, true],
  ["data ?& '{a,NULL}'", { data: '["a"]' }, true],
  ["data #>> '{a,1,b}' = '[1, \"}\"]'", { data: '{"a": ["x", {"b": [1, "}"]}]}' }, true],
  ["id > ALL('{1,2}')", { id: "2" }, false],
  ["(id, small) < (1, 2)", { id: "1", small: "1" }, true],
  ["(id, small) < (1, 2)", { id: "1", small: null }, null],
  ["(id = 1) = paid", { id: "2", paid: "f" }, true],
  ["id / 2 = -3", { id: "-7" }, true],
  ["id % 2 = -1", { id: "-7" }, true],
  ["amount / 3 = 0.33333333333333333333", { amount: "1" }, true],
  ["coalesce(small, id) = 5", { small: null, id: "5" }, true],
  ["nullif(id, 5) IS NULL", { id: "5" }, true],
  ["greatest(id, small, NULL) = 2", { id: "1", small: "2" }, true],
  ["name LIKE 'a%b'", { name: "a\nb" }, true],
  ["name LIKE '_'", { name: "😀" }, true],
  ["name NOT LIKE '%b'", { name: null }, null],
  ["name LIKE ANY (ARRAY['x%', '%b'])", { name: "ab" }, true],
  ["name NOT LIKE ALL (ARRAY['x%', NULL])", { name: "ab" }, null],
  ["name NOT LIKE ALL ('{}')", { name: null }, true],
  ["code ILIKE ANY ('{x,Ä_%}')", { code: "Äb" }, true],
  ["name LIKE ALL (tags)", { name: "ab", tags: "{a%,%b}" }, true],
  ["code ILIKE 'Ä%'", { code: "ä" }, false],
  ["lower(name COLLATE \"C\") = 'aÄ'", { name: "AÄ" }, true],
  ["length(name) = 2", { name: "😀é" }, true],
  ["code || name > 'ab'", { code: "a", name: "c" }, true],
  ["weight = 0", { weight: "-0" }, true],
  ["weight <> 1.5", { weight: "1.5" }, false],
  ["weight > 'Infinity'", { weight: "NaN" }, true],
  ["weight = 'NaN'", { weight: "NaN" }, true],
  ["weight IN (1, 2.5)", { weight: null }, null],
  ["weight / 2 = 0.5", { weight: "1" }, true],
  ["id = weight", { id: "9007199254740993", weight: "9007199254740992" }, true],
  ["took = '30 days'", { took: "1 mon" }, true],
  ["took < '1 mon'", { took: "29 days 23:59:59.999999" }, true],
  ["took > '1000 years'", { took: "infinity" }, true],
  ["opens < '24:00'", { opens: "23:59:59.999999" }, true],
  ["raw < '\\x0100'", { raw: "\\x01" }, true],
  ["status < 'shipped'", { status: "new" }, true],
  ["id::text LIKE '1%'", { id: "12" }, true],
  ["at >= due", { at: "2026-02-28 00:00:00+00", due: "2026-02-28" }, true],
  ["at > due", { at: "2026-02-28 00:00:00+00", due: "2026-02-28" }, false],
  ["at < due", { at: "294276-12-31 23:59:59.999999+00", due: "294277-01-01" }, true],
  ["at = due", { at: "infinity", due: "infinity" }, true],
  ["at < '300000-01-01'::date", { at: "infinity" }, false],
  ["at = '2026-02-28'::date", { at: "2026-02-28 00:00:00+00" }, true],
  ["due < '2026-02-28 00:00:00.1'::timestamp", { due: "2026-02-28" }, true],
  ["at::date = due", { at: "2026-02-28 23:59:59.999999+00", due: "2026-02-28" }, true],
  ["at::date = due", { at: "0044-03-15 12:00:00+00 BC", due: "0044-03-15 BC" }, true],
  [
    "at::timestamp::timestamptz = at AND due::timestamptz <= at",
    { at: "2026-02-28 00:00:00+00", due: "2026-02-28" },
    true,
  ],
  ["at::timestamp::timestamptz = at", { at: "0044-03-15 12:00:00.5+00 BC" }, true],
  ["at::date = 'infinity' AND at::text = 'infinity'", { at: "infinity" }, true],
  ["at::text = '2026-02-28 00:00:00+00'", { at: "2026-02-28 00:00:00+00" }, true],
  ["weight::text = '9.999999999999999e+22'", { weight: "9.999999999999999e+22" }, true],
  ["weight::text = '1e-05'", { weight: "0.00001" }, true],
  ["weight::text = '-0'", { weight: "-0" }, true],
  ["weight::float4::text = '1.6777216e+07'", { weight: "16777217" }, true],
  ["amount::float4 = 16777218", { amount: "16777217.00000000000000001" }, true],
  ["amount::float4 = 16777216", { amount: "16777217" }, true],
  ["amount::float4 = -16777216", { amount: "-16777216.99999999999999999" }, true],
  ["id::float4 = 9007199791611904", { id: "9007199254740993" }, false],
  ["weight::numeric = 100000000000000", { weight: "100000000000000.5" }, true],
  ["weight::numeric::text = '0'", { weight: "-0" }, true],
  ["weight::numeric > 'Infinity'", { weight: "NaN" }, true],
  ["amount::int = 3", { amount: "2.5" }, true],
  ["weight::int = 2", { weight: "2.5" }, true],
  ["name::int > 9", { name: " 10 " }, true],
  ["small <> 0 AND 10 / small > 3", { small: "0" }, false],
];

const failures: [where: string, values: Record<string, string>, message: string][] = [
  ["1 / id > 0", { id: "0" }, "division by zero"],
  ["amount % 0 = 1", { amount: "1.5" }, "division by zero"],
  ["id + 1 > 0", { id: "9223372036854775807" }, "bigint out of range"],
  ["name LIKE 'a\\'", { name: "ab" }, "LIKE pattern must not end with escape character"],
  ["name::int > 9", { name: "x" }, "invalid input for type pg_catalog.int4"],
  ["weight * 1e300 > 0", { weight: "1e300" }, "value out of range: overflow"],
  ["weight::int2 = 1", { weight: "1e5" }, "smallint out of range"],
  ["abs(small) > 0", { small: "-32768" }, "smallint out of range"],
  ["(data ->> 'a')::int > 5", { data: '{"a": 7.0}' }, "invalid input for type pg_catalog.int4"],
  ["data @> more", { data: nested(1002), more: nested(1002) }, "stack depth limit exceeded"],
];

for (const [where, values, message] of failures) {
  test(`${where} over ${JSON.stringify(values)} fails: ${message}`, () => {
    const predicate = compileWhere(where, [], table);
    assert(predicate.mayFail);
    assert.throws(() => predicate.matches(row(values)), new EvaluationFailed(message));
  });
}

for (const [where, values, answer] of answers) {
  test(`${where} over ${JSON.stringify(values)} is ${answer}`, () => {
    assert.equal(compileWhere(where, [], table).matches(row(values)), answer);
  });
}

test("a claim compared with a constant is decided at once", () => {
  assert.equal(compileWhere("$1 = 'admin' OR owner = $2", ["admin", null], table).sql, "true");
  assert.equal(compileWhere("$1 = 'admin'", ["user"], table).sql, "false");
  assert.equal(compileWhere("$1", [true], table).sql, "true");
});

// ── Rules ────────────────────────────────────────────────────────────────────────────────────────────────────────────

test("a rule decides before the where", () => {
  const guarded = both(compileWhere("id = 1", [], table), compileWhere("name = 'x'", [], table));
  assert.equal(guarded.matches(row({ id: "1", name: "x" })), true);
  assert.equal(guarded.matches(row({ id: "2", name: "x" })), false);
  assert.equal(guarded.matches(row({ id: null, name: "x" })), false);
  assert.deepEqual(guarded.columns, [0, 2]);
  assert.match(guarded.sql, /CASE WHEN "id" .* THEN "name" .* ELSE false END/);
});

test("a rule or a where that says nothing leaves the other as it is", () => {
  const where = compileWhere("id = 1", [], table);
  assert.equal(both(everything, where), where);
  assert.equal(both(where, everything), where);
  assert.equal(both(where, compileWhere("1 = id", [], table)).canonical, where.canonical);
  assert.equal(both(nothing, where).canonical, "false");
});

test("a column that the client may not read does not exist for it", () => {
  const isVisible = (position: number) => position !== 2;
  assert.throws(() => compileWhere("id = 1 AND name = 'x'", [], table, isVisible), {
    code: "unknown_column",
    position: 11,
  });
  assert.equal(compileWhere("id = 1", [], table, isVisible).columns.length, 1);
});

// ── Refusals ─────────────────────────────────────────────────────────────────────────────────────────────────────────

const refused: [where: string, params: unknown[], code: ErrorCode, position?: number][] = [
  // Not one condition
  ["", [], "where_syntax", 0],
  ["id =", [], "where_syntax", 4],
  ["id = 1 AND", [], "where_syntax", 10],
  ["name = 'é😀' id", [], "where_syntax", 13],
  ["id = 'x", [], "where_syntax", 5],
  ["id = 1 /* x", [], "where_syntax", 7],
  ["id = 1; DROP TABLE orders", [], "where_syntax", 6],
  ["id = 1) OR (id = 2", [], "where_syntax", 6],
  ["id = 1) UNION SELECT 1 FROM t WHERE (true", [], "where_syntax", 6],
  ["id = 1 ORDER BY id", [], "where_syntax", 7],
  ["id = 1 LIMIT 1", [], "where_syntax", 7],
  ["id = 1 FOR UPDATE", [], "where_syntax", 7],
  ["id = 1\0", [], "where_syntax"],
  ["name = '\ud800'", [], "where_syntax"],
  // Not supported
  ["loose LIKE 'a%'", [], "where_unsupported", 6],
  ["name ILIKE 'a%'", [], "where_unsupported", 5],
  ["name ~ 'a'", [], "where_unsupported", 5],
  ["name SIMILAR TO 'a'", [], "where_unsupported", 5],
  ["name LIKE $1", ["x".repeat(1_001)], "where_unsupported", 5],
  ["name LIKE 'a' ESCAPE 'xx'", [], "where_failed", 5],
  ["lower(name) = 'a'", [], "where_unsupported", 0],
  ["id = (SELECT 1)", [], "where_unsupported", 6],
  ["EXISTS (SELECT 1)", [], "where_unsupported", 8],
  ["CASE WHEN paid THEN paid END", [], "where_unsupported", 0],
  ["at < now()", [], "where_unsupported", 5],
  ["at < current_timestamp", [], "where_unsupported", 5],
  ["at < 'now'", [], "where_unsupported", 5],
  ["at < '1/2/2026'", [], "where_unsupported", 5],
  ["coalesce(at, due) = at", [], "where_unsupported", 0],
  ["due IN ('2026-02-28', at, '2026-02-28 10:00'::timestamp)", [], "where_unsupported", 4],
  ["at IN ('2026-02-28'::date, '300000-01-01'::date)", [], "where_unsupported", 3],
  ["name < 'b'", [], "where_unsupported", 5],
  ["loose = 'b'", [], "where_unsupported", 6],
  ["name COLLATE \"de-x-icu\" = 'b'", [], "where_unsupported", 5],
  ["pair IS NULL", [], "where_unsupported", 0],
  ["amount = '1.005'::numeric(3,2)", [], "where_unsupported", 16],
  ["amount = 1e99999", [], "where_unsupported", 9],
  ["id ^ 2 = 4", [], "where_unsupported", 3],
  ["(weight * '-0'::float8)::text = '0'", [], "where_unsupported", 23],
  ["at::time = '10:00'", [], "where_unsupported", 2],
  ["due::text = 1", [], "where_type", 10],
  ["id IN (1, 1.5::float8)", [], "where_unsupported", 3],
  ["weight = 1e400", [], "where_type", 9],
  ["took = 'infinity'", [], "where_unsupported", 7],
  ["took = '1.5 days'", [], "where_unsupported", 7],
  ["opens = '4 PM'", [], "where_unsupported", 8],
  ["opens = '25:00'", [], "where_type", 8],
  ["raw = '\\xf'", [], "where_type", 6],
  ["id = 'x'::text::int", [], "where_failed", 14],
  ["id = ANY(ARRAY[1 / id, 2])", [], "where_unsupported", 3],
  ["(id, 1 / id) < (1, 2)", [], "where_unsupported", 13],
  ["id = ANY('{}') AND 1 / id > 2", [], "where_unsupported", 3],
  ["coalesce(name, loose) = 'b'", [], "where_unsupported", 22],
  ["id = 1 / 0", [], "where_failed", 7],
  ["id + 1 > 0 AND id = 2147483647 + 1", [], "where_failed", 31],
  ["orders.* IS NULL", [], "unknown_column", 0],
  ["data = $1", [`[${"1e999,".repeat(200)}1]`], "where_unsupported", 7],
  ["tags < '{a}'", [], "where_unsupported", 5],
  ["data < '1'", [], "where_unsupported", 5],
  ["data @> $1", [nested(202)], "where_unsupported", 8],
  ["data['a'] = '1'", [], "where_unsupported", 0],
  ["tags @> ARRAY[name]", [], "where_unsupported", 8],
  // Wrong types
  ['data @> \'{"a": "\\u0000"}\'', [], "where_type", 8],
  ['data @> \'{"a": "\\ud800"}\'', [], "where_type", 8],
  ["data @> '{a: 1}'", [], "where_type", 8],
  ["data @> '[01]'", [], "where_type", 8],
  ["data @> '1 2'", [], "where_type", 8],
  ["tags @> '{a,}'", [], "where_type", 8],
  ["tags @> '{{a},{b,c}}'", [], "where_type", 8],
  ["tags @> '[0:2]={a,b}'", [], "where_type", 8],
  ["parents @> '{x}'", [], "where_type", 11],
  ["parents @> ARRAY[1]", [], "where_unsupported", 8],
  ["parents = ARRAY[1]", [], "where_type", 8],
  ["tags = ANY('{{a}}')", [], "where_type", 5],
  ["tags @> ARRAY[]", [], "where_type", 8],
  ["1 = ANY(id)", [], "where_type", 2],
  ["1 = ANY(tags)", [], "where_type", 2],
  ["'{}' @> '{}'", [], "where_unsupported", 5],
  ["data -> 1::int8 = '1'", [], "where_unsupported", 5],
  ["id = 'x'", [], "where_type", 5],
  ["id = '1.0'", [], "where_type", 5],
  ["small = '40000'", [], "where_type", 8],
  ["id = '9223372036854775808'", [], "where_type", 5],
  ["name = 1", [], "where_type", 5],
  ["id = true", [], "where_type", 3],
  ["id", [], "where_type", 0],
  ["id AND paid", [], "where_type", 0],
  ["1", [], "where_type", 0],
  ["owner = 'x'", [], "where_type", 8],
  ["owner = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::text", [], "where_type", 6],
  ["status = 'nope'", [], "where_type", 9],
  ["due = '2026-02-30'", [], "where_type", 6],
  ["due = '0000-01-01'", [], "where_type", 6],
  ["at = '294277-01-01'", [], "where_type", 5],
  ["paid = 'maybe'", [], "where_type", 7],
  ["id = ANY('1,2')", [], "where_type", 9],
  ["id = ANY(ARRAY['1'])", [], "where_type", 3],
  ["id = ANY(ARRAY[1, true])", [], "where_type", 15],
  ["id + name = 1", [], "where_unsupported", 3],
  ["id + 1", [], "where_type", 3],
  ["(id, id) = (1, 2, 3)", [], "where_type", 9],
  ["(id, id) = 1", [], "where_type", 9],
  ['id COLLATE "C" = 1', [], "where_type", 3],
  ["name = code", [], "where_type", 5],
  // Columns
  ["nope = 1", [], "unknown_column", 0],
  ["'ä' = name AND nope = 1", [], "unknown_column", 15],
  ["other.id = 1", [], "unknown_column", 0],
  ["ctid IS NULL", [], "unknown_column", 0],
  ["orders = 1", [], "unknown_column", 0],
  // Parameters
  ["id = $1", [], "where_params", 5],
  ["id = $2", [1], "where_params", 5],
  ["id = $0", [1], "where_params", 5],
  ["id = 1", [1], "where_params"],
  ["id = $1", [[1]], "where_params", 5],
  ["id = ANY($1)", [1], "where_params", 9],
  ["id = ANY($1)", [[[1]]], "where_params", 9],
  ["id = $1", [{}], "where_params", 5],
  ["id = $1", [2 ** 53], "where_params", 5],
  ["amount = $1", [Number.NaN], "where_params", 9],
  ["name = $1", ["\0"], "where_params", 7],
  ["id = $1", [1.5], "where_type", 5],
];

for (const [where, params, code, position] of refused) {
  test(`${JSON.stringify(where)} with ${JSON.stringify(params)} is refused: ${code}`, () => {
    assert.throws(
      () => compileWhere(where, params, table),
      (error) => {
        assert(error instanceof WalcastError, String(error));
        assert.deepEqual({ code: error.code, position: error.position }, { code, position });
        return true;
      },
    );
  });
}

test("a refusal does not repeat the values it was given", () => {
  assert.throws(
    () => compileWhere("id = $1", ["secret"], table),
    (error: Error) => !error.message.includes("secret"),
  );
});

// ── Limits: a named error, and the process goes on ───────────────────────────────────────────────────────────────────

const tooMuch: [what: string, where: string][] = [
  ["100,000 parentheses", `${"(".repeat(100_000)}paid${")".repeat(100_000)}`],
  ["5,000 parentheses", `${"(".repeat(5000)}paid${")".repeat(5000)}`],
  ["201 parentheses", `${"(".repeat(201)}paid${")".repeat(201)}`],
  ["10,000 NOTs", `${"NOT ".repeat(10_000)}paid`],
  ["300 NOTs", `${"NOT ".repeat(300)}paid`],
  ["a chain of casts", `id = 1${"::int".repeat(10_000)}`],
  ["a chain of sums", `id = 1${"+1".repeat(30_000)}`],
  ["nested arrays", `id = ANY(${"ARRAY[".repeat(5000)}1${"]".repeat(5000)})`],
  ["CASE in CASE", `${"CASE WHEN paid AND ".repeat(3000)}paid`],
  ["a chain of UNIONs", `id IN (SELECT 1${" UNION SELECT 1 AND 2".repeat(3000)})`],
  ["a chain of VALUES", `id IN (VALUES (1),(1)${" UNION VALUES (1),(1)".repeat(3000)})`],
  ["8,000 ORs", `id=1${" OR 1=1".repeat(8_000)}`],
  ["1,000 ORs", `paid${" OR paid".repeat(1_000)}`],
  ["1,001 columns, constants and operators", `paid${" OR id=1".repeat(333)} OR paid`],
  ["10,001 constants in a list", `id IN (${"1,".repeat(10_000)}1)`],
  ["10,001 elements in an array", `id = ANY(ARRAY[${"1,".repeat(10_000)}1])`],
  ["10,001 elements in a literal", `id = ANY('{${"1,".repeat(10_000)}1}')`],
  ["1,000 comparisons by a list", `id + 1 IN (${"1,".repeat(999)}1)`],
  ["1,000 patterns in a list", `name LIKE ANY('{${"%a%,".repeat(999)}%a%}')`],
  ["10,000 arguments", `greatest(${"id,".repeat(9_999)}id) = 1`],
  ["a constant of too many digits", `amount = 1e1000${"*1e1000".repeat(60)}`],
  ["64 KiB of text", `name = '${"x".repeat(65_536)}'`],
];

for (const [what, where] of tooMuch) {
  test(`${what} are refused by name`, () => {
    assert.throws(() => compileWhere(where, [], table), { code: "where_unsupported" });
    assert.equal(compileWhere("id = 1", [], table).matches(row({ id: "1" })), true);
  });
}

test("an array of 10,001 parameters is refused by name", () => {
  assert.throws(() => compileWhere("id = ANY($1)", [Array.from({ length: 10_001 }, (_, i) => i)], table), {
    code: "where_unsupported",
  });
});

test("what a row is compared with as a whole is bounded by its length", () => {
  const numbers = (count: number): string => Array.from({ length: count }, (_, i) => 1000 + i).join();
  const json = tableOf([column("doc", "jsonb"), column("tags", "int4[]")]);
  for (const [before, after] of [
    ["doc @> '[", "]'"],
    ["tags @> '{", "}'"],
    ["tags @> ARRAY[", "]"],
  ] as const) {
    compileWhere(`${before}${numbers(1_000)}${after}`, [], json);
    assert.throws(() => compileWhere(`${before}${numbers(2_000)}${after}`, [], json), { code: "where_unsupported" });
  }
});

test("a list of 9,000 values is taken, and finds its values", () => {
  const predicate = compileWhere("id = ANY($1)", [Array.from({ length: 9000 }, (_, i) => i * 2)], table);
  assert.equal(predicate.matches(row({ id: "17998" })), true);
  assert.equal(predicate.matches(row({ id: "17997" })), false);
});

test("199 levels are taken", () => {
  assert.equal(compileWhere(`${"(".repeat(199)}paid${")".repeat(199)}`, [], table).matches(row({ paid: "t" })), true);
});

test("a row without a column that a predicate reads is our own bug", () => {
  assert.throws(() => compileWhere("small = 1", [], table).matches(tupleOf(["1"])), assert.AssertionError);
});
