/** What routing found: shapes that changed, that have to be loaded anew, and that cannot say for some row whether it is theirs. */
import type { WalcastError } from "../protocol.ts";
import type { ShapeEntry } from "./entry.ts";
import type { MessageShape } from "./message-shape.ts";
import type { PayloadWriter } from "./payload.ts";
import type { Shape } from "./shape.ts";

export class Findings<Subscriber> {
  /** Those that changed, each once, */
  readonly touched: ShapeEntry<Subscriber, unknown>[] = [];
  /** and what is written for each of them. */
  readonly writers: PayloadWriter[] = [];
  readonly broken = new Set<ShapeEntry<Subscriber, Shape | MessageShape>>();
  readonly failed = new Map<ShapeEntry<Subscriber, Shape>, WalcastError>();
}
