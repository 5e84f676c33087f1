/** What a program is given of a query's rows. */
import type { Rows } from "./query.ts";

/** The rows, with the position that they are at, or for SQL: at or after. */
export function resultAt<R>(rows: R[], position: string): Rows<R> {
  return Object.defineProperty(rows, "position", { value: position }) as unknown as Rows<R>;
}
