/** What the server means by the code with which it closes a connection. */
import { closeCodes, type ErrorCode, WalcastError } from "../engine/protocol.ts";

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
