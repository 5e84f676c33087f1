/** Whether functions give the same for the same row at any time, by what Postgres' catalog says of them. */
import type { Database } from "../database.ts";
import { NotIncremental } from "./not-incremental.ts";

/** Everything from here on was made by somebody (FirstNormalObjectId). */
export const FIRST_USER_OID = 16_384;

/** Postgres calls them stable for the session settings they look at, and those stay as they are. */
const steady = new Set([
  ...["date_trunc", "date_part", "extract", "timezone", "to_char", "to_date", "to_timestamp", "to_number"],
  ...["date", "time", "timetz", "timestamp", "timestamptz", "timestamptz_pl_interval", "timestamptz_mi_interval"],
  ...["interval_pl_timestamptz", "concat", "concat_ws", "format", "array_to_string", "textanycat", "anytextcat"],
  ...["to_json", "to_jsonb", "row_to_json", "array_to_json", "json_build_object", "json_build_array"],
  ...["jsonb_build_object", "jsonb_build_array", "to_tsvector", "to_tsquery", "plainto_tsquery"],
  ...["phraseto_tsquery", "websearch_to_tsquery", "quote_literal", "quote_nullable"],
]);

/** `date_lt_timestamptz` and so on. */
const steadyComparison = /^(date|timestamp|timestamptz)_(eq|ne|lt|le|gt|ge|cmp)_(date|timestamp|timestamptz)$/;

/** Throws NotIncremental. */
export function refuseFunctions(database: Database, oids: readonly number[]): void {
  const query =
    "SELECT oid::int8 AS oid, proname, provolatile = 's' AS stable FROM pg_proc WHERE oid = ANY ($1::oid[]) AND (provolatile <> 'i' OR oid >= $2)";
  for (const { oid, proname, stable } of database.rows(query, [oids, FIRST_USER_OID])) {
    const name = String(proname);
    if (Number(oid) >= FIRST_USER_OID) throw new NotIncremental(`it calls ${name}, which may do anything`);
    if (stable !== true || !(steady.has(name) || steadyComparison.test(name)))
      throw new NotIncremental(`it calls ${name}, which may give something else each time`);
  }
}
