/**
 * docs/shapes.md: each of its examples has the rows, the error, the normal form and the place in the index that the page says,
 * here and in Postgres; and its lists of types, operators and functions are those of the code.
 */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { before, test } from "node:test";
import { describeTable } from "../engine/changes/catalog.ts";
import { migrate } from "../engine/changes/setup.ts";
import type { Table } from "../engine/changes/table.ts";
import type { Tuple } from "../engine/changes/tuple.ts";
import { WalcastError } from "../engine/errors.ts";
import { PredicateIndex } from "../engine/shapes/predicate-index.ts";
import { compileWhere, EvaluationFailed, loadParser, type Predicate, selection } from "../engine/shapes/where.ts";
import { operations } from "../engine/shapes/where/functions.ts";
import { typeNames } from "../engine/shapes/where/type.ts";
import { tupleOf } from "./shapes/generate.ts";
import { testDatabase } from "./support/postgres.ts";

const page = await readFile(join(dirname(import.meta.dirname), "docs", "shapes.md"), "utf8");
const tables = page.split(/^## /m).flatMap(tablesOf);

let table: Table;
let rows: readonly Tuple[];
/** The ids for which Postgres finds a condition true; rejects where it fails. */
let idsInPostgres: (condition: string) => Promise<string>;

before(async () => {
  await loadParser();
  const database = await testDatabase();
  await migrate(database.url);
  await database.query(/^```sql\n(.*?)^```$/ms.exec(page)![1]!);
  const asText = { types: { getTypeParser: () => (text: string | Buffer) => String(text) }, rowMode: "array" as const };
  const client = await database.pool.connect();
  await client.query("set timezone = 'UTC'; set datestyle = 'ISO'");
  const { rows: oids } = await client.query<{ oid: number }>("select 'orders'::regclass::oid");
  table = (await describeTable(database.pool, oids[0]!.oid))!;
  const found = await client.query<(string | null)[]>({ ...asText, text: "select * from orders order by id" });
  rows = found.rows.map(tupleOf);
  client.release();
  idsInPostgres = async (condition) => {
    const { rows: ids } = await database
      .query(`set timezone = 'UTC'; select id from orders where ${condition} order by id`)
      .then((results) => (results as unknown as readonly { rows: { id: number }[] }[])[1]!);
    return ids.map(({ id }) => id).join(", ");
  };
});

for (const { name, head, body } of tables) {
  for (const [condition, expected = "", ...rest] of body) {
    const where = unquoted(condition!);
    if (head[1] === "rows")
      test(`${name}: ${where}`, async () => {
        assert.equal(idsFor(selection(compiled(where))), expected);
        assert.equal(await idsInPostgres(where), expected);
        assert.equal(await idsInPostgres(compiled(where).sql), expected);
      });
    if (head[1] === "fails with")
      test(`${name}: ${where}`, async () => {
        assert.throws(() => idsFor(compiled(where)), new EvaluationFailed(expected));
        await assert.rejects(idsInPostgres(where), { message: expected });
      });
    if (head[1] === "the same")
      test(`${name}: ${where}`, async () => {
        const same = unquoted(expected);
        assert.equal(compiled(where).canonical, compiled(same).canonical);
        assert.equal(await idsInPostgres(where), await idsInPostgres(same));
      });
    if (head[1] === "found by the index")
      test(`${name}: ${where}`, () => {
        const index = new PredicateIndex<string>();
        index.add(selection(compiled(where)), "shape");
        assert.equal(index.unindexed === 0, expected.startsWith("yes"));
      });
    if (head[1] === "refused with")
      test(`${name}: ${where}`, () => {
        assert(rest[0], "the page says why");
        assert.throws(
          () => compiled(where),
          (error) => error instanceof WalcastError && error.code === unquoted(expected),
        );
      });
  }
}

test("two ways to write a condition that the page calls two shapes are two", () => {
  assert.notEqual(compiled("quantity > 1").canonical, compiled("quantity >= 2").canonical);
});

test("the page has every type that can be compared", () => {
  const listed = bodyOf("Types").flatMap(([types]) => codesIn(types!));
  assert.deepEqual(listed.toSorted(), [...typeNames].toSorted());
});

test("the page has every operator and function, with the types that it takes", () => {
  const listed = bodyOf("Operators and functions").flatMap(([names, signatures]) =>
    codesIn(names!).flatMap((name) =>
      codesIn(signatures!)
        .flatMap(spelledOut)
        .map((types) => `${name}: ${types}`),
    ),
  );
  const known = operations.map(({ name, args, result }) => `${name}: ${args.join(" ")} → ${result}`);
  assert.deepEqual(listed.toSorted(), known.toSorted());
});

test("every kind of table on the page was found", () => {
  const counts = ["rows", "fails with", "the same", "found by the index", "refused with"].map(
    (kind) => tables.filter(({ head }) => head[1] === kind).length,
  );
  assert.deepEqual(counts, [6, 1, 1, 1, 1]);
});

function compiled(where: string): Predicate {
  return compileWhere(where, [], table);
}

function idsFor(predicate: Predicate): string {
  return rows.flatMap((row, i) => (predicate.matches(row) === true ? [String(i + 1)] : [])).join(", ");
}

// ── The page ─────────────────────────────────────────────────────────────────────────────────────────────────────────

interface PageTable {
  readonly name: string;
  readonly head: readonly string[];
  readonly body: readonly (readonly string[])[];
}

/** Of one section, whose name they have. */
function tablesOf(section: string): PageTable[] {
  const name = section.slice(0, section.indexOf("\n"));
  return [...section.matchAll(/(?:^\|.*\|\n)+/gm)].map(([text]) => {
    const [head = [], , ...body] = text.trim().split("\n").map(cellsOf);
    return { name, head, body };
  });
}

function cellsOf(line: string): string[] {
  return line
    .slice(1, -1)
    .split(/(?<!\\)\|/)
    .map(cellOf);
}

function cellOf(text: string): string {
  return text.trim().replaceAll("\\|", "|");
}

function bodyOf(section: string): PageTable["body"] {
  return tables.find(({ name }) => name === section)!.body;
}

function unquoted(cell: string): string {
  return cell.replace(/^`(.*)`$/, "$1");
}

function codesIn(cell: string): string[] {
  return [...cell.matchAll(/`([^`]+)`/g)].map(([, code]) => code!);
}

/** A signature with `integer` or `T[]` in it stands for one of each type. */
function spelledOut(signature: string): string[] {
  const arrays = typeNames.filter((name) => name.endsWith("[]"));
  if (signature.includes("T[]")) return arrays.map((name) => signature.replaceAll("T[]", name));
  if (!signature.includes("integer")) return [signature];
  return ["int2", "int4", "int8"].map((name) => signature.replaceAll("integer", name));
}
