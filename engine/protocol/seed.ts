/** First rows that travel in a page instead of over the socket. */
import type { ShapeRequest, TableDescription } from "../protocol.ts";

/** Rows of some shapes at one position, with what a client needs to go on from there. Plain JSON; as text (`${seed}`) it may stand in HTML. */
export interface Seed<Name extends string = string> {
  readonly epoch: string;
  /** Text form of a commit's end: all rows are at it. */
  readonly position: string;
  readonly shapes: Readonly<Record<Name, SeedShape>>;
  /** On the server: JSON that may stand in HTML. */
  toString(): string;
}

export interface SeedShape {
  readonly request: ShapeRequest;
  /** As in `described`, with the identity that the shape has for these rights. */
  readonly table: TableDescription;
  /** Postgres' text, or null, in the order of the table's columns. */
  readonly rows: readonly (readonly (string | null)[])[];
}
