/** Columns of jsonb and of arrays, and what is asked of them, for the comparison with Postgres. */
import { quoteLiteral } from "../../engine/shapes/name.ts";
import { Random, type SampleColumn } from "./generate.ts";

type Pair = readonly [where: string, inlined: string];
type Param = (value: unknown) => string;

const documents = [
  "null",
  "true",
  "1",
  "1.0",
  "-0.0",
  '"a"',
  '"1"',
  '"NULL"',
  "[]",
  "{}",
  "[null]",
  '[1, 1.0, "a", null, [1], {"a": 1}, []]',
  '[[1, 2], [3, "]"], ["a", "b"]]',
  '[{"a": 1, "b": 2}, {"a": 1}, "\\"a"]',
  '{"a": 1}',
  '{ "a" : 1.00 }',
  '{"a": null}',
  '{"a": {"b": [1, 2, {"c": null}], "a": 1}, "": "x", "b": "text"}',
  '{"a": "\\u00e4\\n\\"q\\\\", "bb": false, "aa": 12345678901234567890.10, "b\\"": {"}": "{"}}',
  '{"a": ["a", "b", ["z"], 1e2, -0.0, 1E-5, "1"], "0": "zero", "1": [0]}',
  '{"b": 1, "a": 2, "b": "3", "aa": "4.50"}',
  '{"__proto__": {"constructor": 1}, "constructor": "a"}',
  '{"😀": "é", "ä": ["😀", "\\ud83d\\ude00"], "é": "\\u001f\\u007f/"}',
  '{"a": {"a": {"a": {"a": [[[1]]]}}}}',
  '{"a": "a", "b": ["a"], "null": "null", "x": "ä"}',
];
const keys = [
  "a",
  "b",
  "",
  "aa",
  "0",
  "1",
  "-1",
  "+1",
  " 1",
  "1 ",
  "ä",
  "😀",
  "null",
  "NULL",
  "__proto__",
  'b"',
  "\\",
  "2147483648",
];

const elements = {
  text: ["", " ", "a", "A", "a ", "b", "NULL", "null", "ä", '"', "\\", "{}", ",", "\u00a0", "a b", "\n", "a%", "_\\"],
  integer: ["0", "1", "-1", "2", "32767"],
  numeric: ["0", "1", "1.0", "1.50", "-1.5", "NaN", "Infinity", "12345678901234567890.000000000000000000001"],
  bool: ["t", "false", "yes"],
  uuid: [
    "00000000-0000-0000-0000-000000000000",
    "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
    "a0eebc999c0b4ef8bb6d6bb9bd380a11",
  ],
  bpchar: ["", "a", "a ", "ab", "A"],
  date: ["2000-01-01", "infinity", "0044-03-15 BC"],
  timestamp: ["2000-01-01", "2000-01-01 00:00:00.100", "infinity"],
};
type Elements = keyof typeof elements;

export const documentColumns: readonly SampleColumn[] = [
  jsonColumn("j"),
  jsonColumn("j2"),
  jsonColumn("dj", "document"),
  arrayColumn("xa", "text", "text"),
  arrayColumn("xa2", "text", "text"),
  arrayColumn("xc", "text", "text", 'text[] collate "C"'),
  arrayColumn("xn", "text", "text", "text[] collate case_insensitive"),
  arrayColumn("va", "varchar", "text"),
  arrayColumn("pa", "bpchar", "bpchar", "char(2)[]"),
  arrayColumn("i2a", "int2", "integer"),
  arrayColumn("i4a", "int4", "integer"),
  arrayColumn("i4b", "int4", "integer", "numbers"),
  arrayColumn("i8a", "int8", "integer"),
  arrayColumn("na", "numeric", "numeric"),
  arrayColumn("na2", "numeric", "numeric"),
  arrayColumn("ba", "bool", "bool"),
  arrayColumn("ua", "uuid", "uuid"),
  arrayColumn("da", "date", "date"),
  arrayColumn("sa", "timestamp", "timestamp"),
  arrayColumn("za", "timestamptz", "timestamp"),
];

export const documentTypes = "create domain document as jsonb; create domain numbers as int4[];";

// ── jsonb ────────────────────────────────────────────────────────────────────────────────────────────────────────────

function jsonColumn(name: string, type = "jsonb"): SampleColumn {
  const own = { name, type, cast: "jsonb", values: documents, family: "jsonb", isOrdered: false };
  return { ...own, leaf: (random, param) => jsonLeaf(random, name, param) };
}

function jsonLeaf(random: Random, name: string, param: Param): Pair {
  const json = (depth = 2): Pair => jsonValue(random, name, depth, param);
  const text = (): Pair => assembled("(", json(1), ` ${random.of(["->>", "->>"])} `, step(random, param), ")");
  const value = (): Pair => (random.chance(60) ? text() : assembled("(", json(1), " #>> ", path(random, param), ")"));
  switch (random.below(11)) {
    case 0:
    case 1:
      return assembled(json(), random.of([" @> ", " <@ "]), random.chance(70) ? constant(random, param) : json());
    case 2:
      return assembled(constant(random, param), random.of([" @> ", " <@ "]), json());
    case 3:
      return assembled(json(), " ? ", random.chance(15) ? same("tx") : given(random, random.of(keys), param));
    case 4:
      return assembled(json(), random.of([" ?| ", " ?& "]), path(random, param));
    case 5:
      return assembled(json(), random.of([" = ", " <> "]), random.chance(50) ? constant(random, param) : json());
    case 6:
      return assembled(random.chance(50) ? json() : value(), random.of([" IS NULL", " IS NOT NULL"]));
    case 9:
      return assembled(
        "(",
        value(),
        ")",
        random.of(["::int > 1", "::numeric = 1", "::bool", "::text < 'b' COLLATE \"C\""]),
      );
    case 10:
      return assembled("(", json(), ")::text LIKE ", quoteLiteral(random.of(["%a%", "{%: 1%", "[1,%"])));
    case 7:
      return assembled(
        value(),
        random.of([" LIKE '%a%'", " IN ('a', '1', 'zero')", " = ANY('{a,1.0,NULL}')", " = tc"]),
      );
    default:
      return assembled(
        value(),
        random.of([" = ", " <> ", ' COLLATE "C" < ']),
        quoteLiteral(random.of([...keys, "4.50", "[1]"])),
      );
  }
}

function jsonValue(random: Random, name: string, depth: number, param: Param): Pair {
  const inner = (): Pair => jsonValue(random, name, depth - 1, param);
  if (depth === 0 || random.chance(45)) return same(random.of([name, name, "j", "j2"]));
  if (random.chance(60)) return assembled("(", inner(), " -> ", step(random, param), ")");
  if (random.chance(70)) return assembled("(", inner(), " #> ", path(random, param), ")");
  return assembled("coalesce(", inner(), ", ", constant(random, param), ")");
}

function step(random: Random, param: Param): Pair {
  if (random.chance(40)) return same(random.of(["0", "1", "(-1)", "2", "-1::int2", "(-2147483648)", "i2", "99"]));
  return random.chance(10) ? same("tx") : given(random, random.of(keys), param);
}

function path(random: Random, param: Param): Pair {
  const steps = random.chance(10) ? [] : random.some<string | null>([...keys, "a", "a", "0", "a", "b"], 3);
  if (random.chance(8)) steps.push(null);
  const literal = quoteLiteral(arrayText(steps));
  if (random.chance(20)) return [param(steps), literal];
  if (random.chance(20)) return same(`ARRAY[${steps.map(literalOrNull).join(", ")}]::text[]`);
  return same(random.chance(5) ? "xa" : literal);
}

function constant(random: Random, param: Param): Pair {
  return given(random, random.of(documents), param, "jsonb");
}

// ── Arrays ───────────────────────────────────────────────────────────────────────────────────────────────────────────

function arrayColumn(name: string, element: string, kind: Elements, type = `${element}[]`): SampleColumn {
  const values = arrays(new Random(name.length + element.length), kind);
  const own = { name, type, cast: `${element}[]`, values, family: `${element}[]`, isOrdered: false };
  return { ...own, leaf: (random, param) => arrayLeaf(random, own, kind, param) };
}

function arrayLeaf(random: Random, { name, cast, values, family }: ArrayColumn, kind: Elements, param: Param): Pair {
  const constantArray = (): Pair => {
    if (random.chance(20))
      return same(`ARRAY[${random.some(elements[kind], 3).map(literalOrNull).join(", ")}]::${cast}`);
    return given(random, random.of(values), param, cast);
  };
  const alike = documentColumns.filter((column) => column.family === family).map((column) => column.name);
  const array = (): Pair => (random.chance(85) ? same(name) : assembled(`coalesce(${name}, `, constantArray(), ")"));
  const other = (): Pair => (random.chance(30) ? same(random.of(alike)) : constantArray());
  switch (random.below(6)) {
    case 0:
      return assembled(array(), random.of([" = ", " <> "]), other());
    case 1:
      return elementLeaf(random, name, kind, param);
    case 2:
      return assembled("cardinality(", array(), `) ${random.of(["=", "<", ">="])} ${random.below(4)}`);
    case 3:
      return assembled(
        "array_length(",
        array(),
        `, ${random.of(["1", "2", "0", "-1", "i2"])})${random.of([" IS NULL", " = 2", " > 1"])}`,
      );
    default:
      return assembled(array(), random.of([" @> ", " <@ ", " && "]), other());
  }
}

type ArrayColumn = Pick<SampleColumn, "name" | "values" | "family"> & { readonly cast: string };

/** Only numbers have an order in every collation, and so have these columns' elements where they are no text. */
function elementLeaf(random: Random, name: string, kind: Elements, param: Param): Pair {
  const columns = {
    text: "tc",
    integer: "i4",
    numeric: "i8",
    bool: "b",
    uuid: "u",
    bpchar: "bp",
    date: "d",
    timestamp: "NULL",
  };
  const value = random.chance(20) ? same(columns[kind]) : given(random, random.of(elements[kind]), param);
  const operator = random.of(kind === "text" ? ["=", "<>"] : ["=", "<>", "<", ">="]);
  return assembled(value, ` ${operator} ${random.of(["ANY", "ALL"])} (${name})`);
}

function arrays(random: Random, kind: Elements): string[] {
  const some = (length: number): (string | null)[] =>
    Array.from({ length }, () => (random.chance(15) ? null : random.of(elements[kind])));
  const nested = (length: number): string => `{${arrayText(some(length))},${arrayText(some(length))}}`;
  return [
    "{}",
    ...Array.from({ length: 14 }, () => arrayText(some(1 + random.below(4)))),
    nested(1),
    nested(2),
    `[0:1]=${arrayText(some(2))}`,
    `[-2:-1][5:6]=${nested(2)}`,
    `{${nested(2)}}`,
    ` { ${arrayText(some(1)).slice(1, -1)} , null } `,
  ];
}

// ── Texts ────────────────────────────────────────────────────────────────────────────────────────────────────────────

function given(random: Random, value: string, param: Param, cast?: string): Pair {
  const literal = quoteLiteral(value);
  if (random.chance(20)) return [param(value), literal];
  return same(cast && random.chance(40) ? `${literal}::${cast}` : literal);
}

function arrayText(values: readonly (string | null)[]): string {
  return `{${values.map((value) => (value === null ? "NULL" : `"${value.replace(/["\\]/g, "\\$&")}"`)).join(",")}}`;
}

function literalOrNull(value: string | null): string {
  return value === null ? "NULL" : quoteLiteral(value);
}

function same(text: string): Pair {
  return [text, text];
}

function assembled(...parts: readonly (Pair | string)[]): Pair {
  const side = (i: 0 | 1): string => parts.map((part) => (typeof part === "string" ? part : part[i])).join("");
  return [side(0), side(1)];
}
