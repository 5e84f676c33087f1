/** Why a connection, or an attempt at one, ended: as an error, and whether it is worth trying again soon. */
import { closeCodes, type ErrorCode, WalcastError } from "../engine/protocol.ts";
import type { ConnectionState } from "./connection-state.ts";

/** Close codes after which trying again soon is pointless. */
export const slowCodes = new Set<number>([
  closeCodes.malformed,
  closeCodes.unauthenticated,
  closeCodes.forbidden,
  closeCodes.tooLarge,
  closeCodes.tooMany,
]);
const closeErrors = new Map<number, ErrorCode>([
  [closeCodes.goingAway, "going_away"],
  [closeCodes.malformed, "malformed_message"],
  [closeCodes.unauthenticated, "unauthenticated"],
  [closeCodes.forbidden, "forbidden"],
  [closeCodes.tooSlowToGreet, "hello_timeout"],
  [closeCodes.tooLarge, "too_large"],
  [closeCodes.tooMany, "too_many"],
]);

export function errorOfClose(code: number, reason: string): WalcastError {
  return new WalcastError(
    closeErrors.get(code) ?? "connection_lost",
    `keep the connection open: it was closed with code ${code}${reason === "" ? "" : ` (${reason})`}`,
  );
}

export function timedOut({ kind }: ConnectionState): WalcastError {
  const doing = kind === "asking" ? "get a token" : kind === "opening" ? "open the connection" : "wait for the welcome";
  return new WalcastError("connection_lost", `${doing}: timed out`);
}

export function tokenFailed(cause: unknown): WalcastError {
  return new WalcastError("unauthenticated", "get a token: the token function failed", { cause });
}

/** A page under https: may open no ws:. */
export function notOpened(cause: unknown): WalcastError {
  return new WalcastError("connection_lost", "open the connection: it may not be opened", { cause });
}
