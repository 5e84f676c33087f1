/** The HTTP status that goes with an error. https://www.rfc-editor.org/rfc/rfc9110#name-status-codes */
import type { ErrorCode, WalcastError } from "../errors.ts";

const statuses: Partial<Record<ErrorCode, string>> = {
  unauthenticated: "401 Unauthorized",
  token_expired: "401 Unauthorized",
  forbidden: "403 Forbidden",
  unknown_table: "404 Not Found",
  unknown_topic: "404 Not Found",
  position_too_old: "410 Gone",
  too_large: "413 Content Too Large",
  too_fast: "429 Too Many Requests",
  too_many: "503 Service Unavailable",
  auth_unavailable: "503 Service Unavailable",
  not_streaming: "503 Service Unavailable",
  going_away: "503 Service Unavailable",
  snapshot_failed: "503 Service Unavailable",
};

/** Whatever else it is, the request was wrong. */
export function statusOf({ code }: WalcastError): string {
  return statuses[code] ?? "400 Bad Request";
}
