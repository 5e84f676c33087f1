/** How far the first sync is, over all of the page's tables together. */
import { useShape } from "@walcast/client/react";
import { tables } from "./client.ts";

export interface FirstSync {
  /** Every table is here, complete. Stays true: later resyncs happen behind rows that can be read. */
  readonly isReady: boolean;
  readonly rows: number;
  readonly estimatedRows: number;
  /** Why a table cannot be synced. */
  readonly error: string | undefined;
}

export function useFirstSync(): FirstSync {
  // Always the same tables in the same order, as hooks require.
  const shapes = tables.map((table) => useShape(table));
  return {
    isReady: shapes.every(({ status }) => status === "ready" || status === "resyncing"),
    rows: sum(shapes.map(({ progress }) => progress.rows)),
    estimatedRows: sum(shapes.map(({ progress }) => Math.max(progress.rows, progress.estimatedRows))),
    error: shapes.find(({ error }) => error)?.error?.message,
  };
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
