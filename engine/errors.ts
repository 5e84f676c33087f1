/**
 * The one error type of Walcast, and the closed list of its codes. The same code is thrown in process, sent on the
 * socket, returned over HTTP and explained in docs/errors.md. The client SDK reaches this through protocol.ts.
 */
export const errorCodes = [
  // What a client asked for
  "malformed_message",
  "unsupported_protocol",
  "hello_expected",
  "hello_timeout",
  "unauthenticated",
  "token_expired",
  "auth_unavailable",
  "forbidden",
  "too_large",
  "too_many",
  "too_fast",
  "slow_consumer",
  "unknown_table",
  "unknown_topic",
  "table_unsupported",
  "unknown_column",
  "columns_without_key",
  "table_without_key",
  "replica_identity_missing",
  "where_syntax",
  "where_unsupported",
  "where_type",
  "where_params",
  "where_failed",
  "subscription_unknown",
  "await_timeout",
  "transaction_aborted",
  "transaction_unknown",
  // What the engine met
  "snapshot_failed",
  "schema_changed",
  "access_changed",
  "history_changed",
  "position_too_old",
  "audit_mismatch",
  "log_failed",
  "data_dir_in_use",
  "not_streaming",
  "invariant",
  "config_invalid",
  "database_unreachable",
  "database_unsuitable",
  "port_in_use",
  "going_away",
  // What the client SDK met
  "frame_out_of_order",
  "checksum_mismatch",
  "connection_lost",
  "closed",
  "replica_failed",
  "storage_full",
  "query_failed",
] as const;

export type ErrorCode = (typeof errorCodes)[number];

export interface ErrorDetails {
  /** Offset in UTF-16 code units into the text that was refused, from 0. */
  readonly position?: number | undefined;
  /** What to change so that it works. */
  readonly hint?: string | undefined;
  readonly cause?: unknown;
}

/** An error that the other side, the configuration or the world caused. Our own bugs are assertions instead. */
export class WalcastError extends Error {
  override readonly name = "WalcastError";
  readonly code: ErrorCode;
  readonly position: number | undefined;
  readonly hint: string | undefined;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.position = details.position;
    this.hint = details.hint;
  }

  /** The form every transport sends: no stack, no cause. */
  toJSON(): ErrorJson {
    const json: ErrorJson = { code: this.code, message: cut(this.message) };
    if (this.position !== undefined) json.position = this.position;
    if (this.hint !== undefined) json.hint = cut(this.hint);
    return json;
  }
}

// Some repeat what they were given, which may be as long as a message may be: an answer must not be.
const textLengthMax = 1_000;

function cut(text: string): string {
  return text.length <= textLengthMax ? text : `${text.slice(0, textLengthMax).toWellFormed()}…`;
}

export interface ErrorJson {
  code: ErrorCode;
  message: string;
  position?: number;
  hint?: string;
}

export function errorFromJson({ code, message, position, hint }: ErrorJson): WalcastError {
  return new WalcastError(code, message, { position, hint });
}
