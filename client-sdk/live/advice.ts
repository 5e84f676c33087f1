/**
 * Tells a developer, once for each query, that it reads a large table from one end to the other where an index would find its
 * rows, and which index that is. Only outside production builds, as asking for the plan costs some tenths of a millisecond.
 */
import type { Database } from "../database.ts";
import { quoteIdentifier } from "../table-name.ts";

// A thousand rows are read faster than anybody could tell; ten thousand at every change can be felt.
const LARGE_ROWS = 5_000;

/** A node of EXPLAIN (FORMAT JSON). https://www.postgresql.org/docs/current/sql-explain.html */
interface PlanNode {
  readonly "Node Type": string;
  readonly Schema?: string;
  readonly "Relation Name"?: string;
  readonly Filter?: string;
  readonly "Sort Key"?: readonly string[];
  readonly Plans?: readonly PlanNode[];
}

interface Scan {
  readonly table: string;
  readonly name: string;
  /** Between the parentheses of CREATE INDEX. */
  readonly index: string;
}

export class Advice {
  private readonly told = new Set<string>();
  private readonly warn: ((text: string) => void) | undefined;

  constructor(warn: ((text: string) => void) | undefined = isProduction() ? undefined : console.warn) {
    this.warn = warn;
  }

  /** `runs`: how often the query has run. A table may grow, so it is looked at now and then, ever more seldom. */
  consider(database: Database, sql: string, params: readonly unknown[], runs: number): void {
    if (!this.warn || this.told.has(sql) || (runs & (runs - 1)) !== 0) return;
    const scan = scanOf(database, sql, params);
    if (!scan || !isLarge(database, scan.table)) return;
    this.told.add(sql);
    this.warn(
      `Walcast: a live query reads all of ${scan.name} whenever it runs. An index would find its rows: ` +
        `indexes: ["${scan.index}"] in the shape (CREATE INDEX ON ${scan.name} (${scan.index})).\n${sql}`,
    );
  }
}

function scanOf(database: Database, sql: string, params: readonly unknown[]): Scan | undefined {
  try {
    const [row] = database.rows(`EXPLAIN (VERBOSE, COSTS off, FORMAT JSON) ${sql}`, params);
    const [{ Plan }] = row!["QUERY PLAN"] as [{ Plan: PlanNode }];
    return scanIn(Plan, undefined);
  } catch {
    // What cannot be explained needs no advice.
    return undefined;
  }
}

/** `sorted`: what the rows of this node are put in order by, if only the first of them are wanted. */
function scanIn(node: PlanNode, sorted: readonly string[] | undefined): Scan | undefined {
  const name = node["Relation Name"];
  if (node["Node Type"] === "Seq Scan" && name !== undefined) {
    const index = indexFor(node.Filter ?? "", sorted ?? []);
    const table = `${quoteIdentifier(node.Schema ?? "public")}.${quoteIdentifier(name)}`;
    return index === "" ? undefined : { table, name, index };
  }
  const isCut = node["Node Type"] === "Limit";
  for (const plan of node.Plans ?? []) {
    const found = scanIn(plan, isCut ? (plan["Sort Key"] ?? []) : plan["Sort Key"] ? undefined : sorted);
    if (found) return found;
  }
  return undefined;
}

const columnPattern = String.raw`\(?(?:\w+\.)?(\w+|"(?:[^"]|"")+")\)?(?:::[\w ]+)?`;
const equalities = new RegExp(String.raw`\(${columnPattern} = `, "g");
const ranges = new RegExp(String.raw`\(${columnPattern} (?:<|>|<=|>=) `, "g");

/** What is equal first, then what is sorted by, or else what is between bounds. */
function indexFor(filter: string, sorted: readonly string[]): string {
  const equal = [...filter.matchAll(equalities)].map(([, column]) => column!);
  const between = [...filter.matchAll(ranges)].slice(0, 1).map(([, column]) => column!);
  const order = sorted.map((key) => key.replace(/^\w+\./, ""));
  return [...new Set([...equal, ...(order.length > 0 ? order : between)])].join(", ");
}

function isLarge(database: Database, table: string): boolean {
  const query = `SELECT count(*)::int4 AS rows FROM (SELECT FROM ${table} LIMIT ${LARGE_ROWS + 1}) AS beginning`;
  return Number(database.rows(query)[0]?.rows) > LARGE_ROWS;
}

/** Spelled as bundlers look for it. */
function isProduction(): boolean {
  try {
    return process.env.NODE_ENV === "production";
  } catch {
    return false;
  }
}
