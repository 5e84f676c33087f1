/** What Postgres says of a statement that failed, as an error of ours. */
import { WalcastError } from "../engine/protocol.ts";
import type { PostgresError } from "./wire.ts";

/** The SQLSTATE behind an error, if Postgres was the one who raised it. */
export function sqlStateOf(error: unknown): string | undefined {
  const cause = error instanceof WalcastError ? (error.cause as Partial<PostgresError> | undefined) : undefined;
  return cause?.sqlState;
}

/** 0A000: "cached plan must not change result type"; 26000: the application ran DEALLOCATE ALL. */
export function isStalePlan(error: unknown): boolean {
  const state = sqlStateOf(error);
  return state === "0A000" || state === "26000";
}

export function failed(code: "query_failed" | "replica_failed", doing: string, cause: PostgresError): WalcastError {
  const hint =
    cause.sqlState === "25006"
      ? "Rows of the replica change through Postgres only: write there, and the change comes back."
      : cause.hint;
  return new WalcastError(code, `${doing}: ${cause.message}`, { cause, position: cause.position, hint });
}

export function excerpt(sql: string): string {
  return sql.length > 120 ? `${sql.slice(0, 117)}…` : sql;
}

/** What the server sent could not be applied. */
export function asReplicaFailure(error: unknown): WalcastError {
  if (error instanceof WalcastError && error.code !== "query_failed") return error;
  return new WalcastError(
    "replica_failed",
    `apply what the server sent: ${error instanceof Error ? error.message : String(error)}`,
    { cause: error },
  );
}
