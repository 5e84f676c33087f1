/**
 * What a shape's rows add up to, computed as the engine does it on the other side: independent of their order, over the
 * texts of all columns. docs/protocol.md, `audit`.
 */
import type { Database } from "./database.ts";
import { keysEqual, type LocalForm, quoteIdentifier } from "./tables.ts";

export interface Audit {
  /** As text, both: numbers of any size. */
  readonly rows: string;
  readonly hash: string;
}

/** `shape`: where the table has rows of several, the one whose rows are meant. */
export function auditOf(
  database: Database,
  { qualified, holders, form }: { qualified: string; holders: string; form: LocalForm },
  shape: number | undefined,
): Audit {
  const texts = form.columns.map(({ name }) => `(t.${quoteIdentifier(name)})::text`);
  const row = texts.map((text) => `coalesce(length(${text})::text || ':' || ${text}, 'n')`).join(" || ");
  const held =
    shape === undefined ? "" : ` JOIN ${holders} h ON ${keysEqual(form, "t", "h")} AND h.walcast_shape = ${shape}`;
  const [found] = database.texts(
    `SELECT count(*) AS rows, coalesce(sum(('x' || left(md5(${row}), 16))::bit(64)::bigint), 0) AS hash FROM ${qualified} t${held}`,
  );
  return { rows: found!.rows!, hash: found!.hash! };
}
