/** A shape as the query of an address says it. */
import { WalcastError } from "../errors.ts";
import type { ShapeRequest } from "../protocol.ts";

/** `more`: names that the query may have besides. */
export function requestOf(table: string, query: URLSearchParams, more: readonly string[]): ShapeRequest {
  requireKnown(query, ["where", "params", "columns", ...more]);
  const where = query.get("where");
  const params = query.get("params");
  const columns = query.get("columns");
  return {
    table,
    ...(where === null ? {} : { where }),
    ...(params === null ? {} : { params: listOf("params", params) }),
    ...(columns === null ? {} : { columns: columns.split(",").map((name) => name.trim()) }),
  };
}

/** A token has no business in an address, and a misspelt `where` must not mean all rows. */
function requireKnown(query: URLSearchParams, known: readonly string[]): void {
  const unknown = [...query.keys()].find((name) => !known.includes(name));
  if (unknown !== undefined)
    throw new WalcastError("malformed_message", `read a request: expected ${known.join(", ")}, found another name`, {
      hint: "a token goes into the Authorization header, or the cookie that the config names",
    });
}

function listOf(name: string, text: string): readonly unknown[] {
  try {
    const value: unknown = JSON.parse(text);
    if (Array.isArray(value)) return value;
  } catch {
    // Refused below.
  }
  throw new WalcastError("malformed_message", `read a request: expected ${name} as a JSON array`);
}
