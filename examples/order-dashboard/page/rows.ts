/** Live queries for the page: while a query with other parameters has its first run, the rows before stay on screen. */
import { useLiveQuery } from "@walcast/client/react";
import type { Compilable, Kysely } from "kysely";
import { useState } from "react";
import type { Shop } from "./client.ts";

export interface Result<Row> {
  readonly rows: readonly Row[];
  /** Which parameters these rows belong to. */
  readonly of: string;
}

/** Undefined until there are rows for the first time. */
export function useRows<Row extends object>(
  query: (db: Kysely<Shop>) => Compilable<Row>,
  parameters: readonly unknown[] = [],
): Result<Row> | undefined {
  const { rows, status } = useLiveQuery<Row, Shop>(query, parameters);
  const [shown, setShown] = useState<Result<Row>>();
  if (status === "ready" && shown?.rows !== rows) setShown({ rows, of: JSON.stringify(parameters) });
  return shown;
}
