/** Who subscribes: a shape, a channel, or who listens to messages. */
import type { Commit, Lsn, MessagesRequest, ShapeRequest, TableDescription, WalcastError } from "../engine/protocol.ts";
import type { EventReader } from "./event-reader.ts";
import type { Member } from "./local-tables.ts";

/** It is told, and asks nothing. */
export interface Subscriber {
  readonly request: ShapeRequest;
  /** No rows, only changes; nothing of it is kept on the replica. */
  readonly changes: boolean;
  /** What it listens to instead of a shape, and from where on. */
  messages?(): MessagesRequest;
  /** Messages follow; `cause`: why earlier ones are missing. */
  listening?(cause: WalcastError | undefined): void;
  readonly member: Member;
  /** Its rows are about to come, for the first time or again. */
  loading(): void;
  /** The replica has rows of it from an earlier process; `isCurrent`: as of the replica's position. */
  restored(isCurrent: boolean): void;
  /** Inside the replica's turn. */
  described(table: TableDescription, estimatedRows: number, readerOf: MakeReader): void;
  /** Inside the replica's turn. What it returns is called once everything before has been told. */
  altered(table: TableDescription, readerOf: MakeReader): () => void;
  progressed(rows: number, bytes: number): void;
  /** What it is told, or shows, is from there on. */
  joined(position: Lsn): void;
  committed(commits: readonly Commit[]): void;
  failed(error: WalcastError): void;
  /** Nobody listens to it any more. */
  abandon(error: WalcastError): void;
}

/** Whom a channel, or who listens to messages, tells that it begins or ends. */
export interface ListenerHooks {
  add(listener: Subscriber): void;
  remove(listener: Subscriber): Promise<void>;
}

/** Reads changes of a table in this form. */
export type MakeReader = (table: TableDescription) => EventReader;
