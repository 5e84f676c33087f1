/** What a question of `walcast doctor` answers. */
import type { Client } from "pg";

export interface Finding {
  /** fail: the engine would not start, or could not be right. warn: it works, and something will hurt. */
  readonly state: "ok" | "warn" | "fail";
  readonly what: string;
  /** What to run or to set. */
  readonly mend?: string;
}

export async function oneRow<Row extends object>(
  client: Client,
  sql: string,
  params: readonly unknown[] = [],
): Promise<Row> {
  const { rows } = await client.query<Row>(sql, [...params]);
  return rows[0]!;
}

export function ok(what: string): Finding {
  return { state: "ok", what };
}

export function warn(what: string, mend: string): Finding {
  return { state: "warn", what, mend };
}

export function fail(what: string, mend: string): Finding {
  return { state: "fail", what, mend };
}
