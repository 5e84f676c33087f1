/** How far the first sync is, over all of the page's tables together. */
import { useShape } from "@walcast/client/react";
import { client, tables } from "./client.ts";

export interface FirstSync {
  /** Every table is here, complete. Stays true: later resyncs happen behind rows that can be read. */
  readonly isReady: boolean;
  readonly rows: number;
  readonly estimatedRows: number;
  /** The table that cannot be synced, and why. */
  readonly error: string | undefined;
}

export function useFirstSync(): FirstSync {
  const shapes = tables.map((table) => useTable(table));
  return {
    isReady: shapes.every(({ status }) => status === "ready" || status === "resyncing"),
    rows: sum(shapes.map(({ progress }) => progress.rows)),
    estimatedRows: sum(shapes.map(({ progress }) => Math.max(progress.rows, progress.estimatedRows))),
    error: shapes.find(({ status }) => status === "error") && "The engine refused one of the page's tables.",
  };
}

function useTable(table: (typeof tables)[number]) {
  return useShape(client.shapes[table]);
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
