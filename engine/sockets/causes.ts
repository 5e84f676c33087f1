/** Why a subscription is loaded again, as its client is told; and whether and when that is tried once more. */
import { isPostgresAway } from "../changes/connection.ts";
import { TableMoved } from "../changes/reading.ts";
import { type ErrorJson, WalcastError } from "../protocol.ts";

const retryMs = 200;
const retryMsMax = 5_000;

export const changedMeanwhile: ErrorJson = {
  code: "schema_changed",
  message: "resume: the table changed meanwhile: its rows are loaded again",
};

export const otherAccess: ErrorJson = {
  code: "access_changed",
  message: "what this client asks for, or may read, is not what it has: its rows are loaded anew",
};

export function backoffMs(attempt: number): number {
  return Math.min(retryMs * 2 ** attempt, retryMsMax) * Math.random();
}

export function mayRetry(error: unknown): boolean {
  return (
    error instanceof TableMoved ||
    isPostgresAway(error) ||
    (error instanceof WalcastError && (error.code === "snapshot_failed" || error.code === "position_too_old"))
  );
}

export function causeOf(error: unknown): ErrorJson {
  if (error instanceof WalcastError && error.code !== "position_too_old") return error.toJSON();
  if (error instanceof WalcastError)
    return { code: "snapshot_failed", message: "the log let go of what this shape needs before it was loaded" };
  if (error instanceof TableMoved)
    return { code: "schema_changed", message: "the table changed while its rows were read" };
  return { code: "snapshot_failed", message: "Postgres cannot be asked just now; it is tried again" };
}
