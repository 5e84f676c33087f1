/** How far the first sync is, over all of the page's tables together; and what the server has against it. */
import type { ErrorCode } from "@walcast/client";
import { useShape, useStatus } from "@walcast/client/react";
import { client, tables } from "./client.ts";

export interface FirstSync {
  /** Every table is here, complete. Stays true while it may be seen: later resyncs happen behind rows that can be read. */
  readonly isReady: boolean;
  readonly rows: number;
  readonly estimatedRows: number;
  /** Why a table is not here and will not come. */
  readonly refusal: Refusal | undefined;
}

export interface Refusal {
  /** Somebody else might be shown it. */
  readonly isDenied: boolean;
  readonly reason: string;
  readonly hint: string | undefined;
}

const denying = new Set<ErrorCode>(["forbidden", "unauthenticated", "token_expired"]);

export function useFirstSync(): FirstSync {
  const shapes = useShapes();
  const isReady = shapes.every(({ status }) => status === "ready" || status === "resyncing");
  // Who is not let in at all is not told of any table, and asks again and again.
  const status = useStatus();
  const last = isReady || status === "live" || status === "catching-up" ? undefined : client.inspect().lastError;
  const error = shapes.find((shape) => shape.error)?.error ?? (last && denying.has(last.code) ? last : undefined);
  return {
    isReady,
    rows: sum(shapes.map(({ progress }) => progress.rows)),
    estimatedRows: sum(shapes.map(({ progress }) => Math.max(progress.rows, progress.estimatedRows))),
    refusal: error && refusalOf(error),
  };
}

/** Always the same tables in the same order, as hooks require. */
function useShapes() {
  return tables.map((table) => useShape(table));
}

interface Said {
  readonly code: ErrorCode;
  readonly message: string;
  readonly hint?: string | undefined;
}

function refusalOf({ code, message, hint }: Said): Refusal {
  return { isDenied: denying.has(code), reason: message, hint };
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
