/**
 * Publishing from a program: the SQL functions, on a connection of the engine's own or in a transaction of the caller's, who
 * then decides with its commit whether anything was published.
 */
import { CompiledQuery } from "kysely";
import type pg from "pg";
import { messageBounds } from "../../migrations/0003_messages.ts";
import { isPostgresAway } from "../changes/connection.ts";
import { WalcastError } from "../errors.ts";

/** A connection of `pg`, or a transaction of Kysely's. */
export type PublishTransaction =
  | { query(text: string, values: unknown[]): Promise<{ rows: unknown[] }> }
  | { executeQuery(query: CompiledQuery): Promise<{ rows: unknown[] }> };

export interface RevalidateOptions {
  /** Only for clients whose verified token has one of these. Default null: everybody who may listen. */
  readonly scopes?: readonly string[] | null;
  /** The transaction to publish in: published when it commits. Default: one of its own. */
  readonly tx?: PublishTransaction;
}

export interface PublishOptions extends RevalidateOptions {
  /**
   * Whoever does not know whether it has published tries again with the same key: the second time is no message, also from
   * another process. Keys are remembered for a day at least.
   */
  readonly once?: { readonly producer: string; readonly key: string };
}

export interface Published {
  /** False where the key of `once` was used before. */
  readonly published: boolean;
  /** Of the transaction, 64 bits as text: `client.awaitPosition({ xid })`. */
  readonly xid: string;
}

export class Publisher {
  private readonly control: pg.Pool;

  constructor(control: pg.Pool) {
    this.control = control;
  }

  /** Rejects with `too_large`, `malformed_message`, `not_streaming`, or what Postgres says. */
  async publish(topic: string, payload: unknown, { scopes = null, tx, once }: PublishOptions = {}): Promise<Published> {
    const text = jsonOf(payload);
    requireNames("topics", [topic]);
    requireScopes(scopes);
    if (Buffer.byteLength(text) > messageBounds.payloadBytes * 2) throw tooLarge();
    if (!once) return this.run("walcast.publish($1, $2, $3)", [topic, text, scopes], tx);
    requireNames("producers and keys", [once.producer, once.key]);
    const { producer, key } = once;
    return this.run("walcast.publish_once($4, $5, $1, $2, $3)", [topic, text, scopes, producer, key], tx);
  }

  async revalidate(keys: readonly string[], { scopes = null, tx }: RevalidateOptions = {}): Promise<Published> {
    requireNames("keys", keys);
    requireScopes(scopes);
    return this.run("walcast.revalidate($1, $2)", [keys, scopes], tx);
  }

  private async run(call: string, values: unknown[], tx: PublishTransaction = this.control): Promise<Published> {
    const text = `select ${call}::text as published, pg_current_xact_id()::text as xid`;
    try {
      const answer =
        "executeQuery" in tx ? await tx.executeQuery(CompiledQuery.raw(text, values)) : await tx.query(text, values);
      const { published, xid } = answer.rows[0] as { published: string; xid: string };
      return { published: published !== "false", xid };
    } catch (error) {
      throw explained(error);
    }
  }
}

function jsonOf(payload: unknown): string {
  try {
    const text = JSON.stringify(payload) as string | undefined;
    if (text !== undefined) return text;
  } catch (cause) {
    // A bigint, a circle, or more levels than the stack takes.
    throw new WalcastError("malformed_message", "publish: expected a payload that is JSON", { cause });
  }
  throw new WalcastError("malformed_message", "publish: expected a payload that is JSON, found nothing or a function");
}

function explained(error: unknown): unknown {
  const { code, message } = error as pg.DatabaseError;
  if (code === "54000") return new WalcastError("too_large", `publish: ${message}`, { cause: error });
  // Text that jsonb does not take (a NUL, half of a surrogate pair), or a number beyond its own.
  if (code?.startsWith("22")) return new WalcastError("malformed_message", `publish: ${message}`, { cause: error });
  if (isPostgresAway(error))
    return new WalcastError("not_streaming", "publish: Postgres cannot be asked just now", { cause: error });
  return error;
}

function requireScopes(scopes: readonly string[] | null): void {
  if (scopes !== null) requireNames("scopes", scopes);
}

function requireNames(what: string, names: unknown): void {
  if (!Array.isArray(names) || !names.every((name) => typeof name === "string" && name !== ""))
    throw new WalcastError("malformed_message", `publish: expected ${what} as texts that are not empty`);
  if (names.length > messageBounds.names)
    throw new WalcastError(
      "too_large",
      `publish: expected at most ${messageBounds.names} ${what}, found ${names.length}`,
    );
  if (names.some((name: string) => Buffer.byteLength(name) > messageBounds.nameBytes))
    throw new WalcastError("too_large", `publish: expected ${what} of at most ${messageBounds.nameBytes} bytes`);
}

function tooLarge(): WalcastError {
  return new WalcastError("too_large", `publish: expected a payload of at most ${messageBounds.payloadBytes} bytes`, {
    hint: "publish where it is found, and not the thing itself",
  });
}
