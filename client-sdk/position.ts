/** The position that a local transaction brings the rows to, written in that transaction. */
import type { Run } from "./postgres-session.ts";
import { setPosition } from "./store.ts";

// A few for each table.
const TEXTS_MAX = 256;

export class PositionWrites {
  /** By the text of what they do beside. Put together anew each time, a text would have to be hashed as well to be found prepared. */
  private readonly texts = new Map<string, string>();

  /** Most transactions are one run, which writes the position by the way. */
  after(runs: readonly Run[], position: string): readonly Run[] {
    const [first, ...others] = runs;
    if (!first || others.length > 0) return [...runs, setPosition(position)];
    return [{ sql: this.textWith(first), values: [...first.values, position] }];
  }

  private textWith({ sql, values }: Run): string {
    const known = this.texts.get(sql);
    if (known !== undefined) return known;
    if (this.texts.size >= TEXTS_MAX) this.texts.clear();
    const text = `WITH walcast AS (${setPosition("", values.length + 1).sql}) ${sql}`;
    this.texts.set(sql, text);
    return text;
  }
}
