/** A subscription's way on a connection: who subscribes, and how far its rows have come. */
import {
  type Commit,
  type Lsn,
  type MessagesRequest,
  type ShapeRequest,
  type TableDescription,
  type Told,
  WalcastError,
} from "../engine/protocol.ts";
import type { EventReader } from "./event-reader.ts";
import type { Load } from "./joins.ts";
import type { Member } from "./local-tables.ts";
import { Pile } from "./pile.ts";

/** What subscribes: a shape, or a channel (`changes`). It is told, and asks nothing. */
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
}

/** Reads changes of a table in this form. */
export type MakeReader = (table: TableDescription) => EventReader;

export interface Lane {
  /** On the connection there is; another one on each. */
  id: number;
  readonly subscriber: Subscriber;
  stage: "asked" | "loading" | "interrupted" | "joined" | "held" | "resuming" | "over";
  /** What has come of its first rows, while another connection could go on with them. */
  part: { readonly id: string; frames: number } | undefined;
  /** Of a channel that did not end with its connection: the changes that it has been told. Those that follow are asked for. */
  told: Told | undefined;
  /** What the server called these rows, as of the last boundary. */
  identity: string | undefined;
  /** On the replica, from when `described` has been worked off until its rows stand in their table. */
  load: Load | undefined;
  /** Its join has been; before that nothing of it may be applied. */
  isApplied: boolean;
  /** Payloads of catch-up frames. */
  readonly catchUp: Pile;
  rows: number;
  bytes: number;
}

export function newLane(subscriber: Subscriber): Lane {
  return {
    id: 0,
    subscriber,
    stage: "asked",
    identity: undefined,
    part: undefined,
    told: undefined,
    load: undefined,
    isApplied: false,
    catchUp: new Pile(),
    rows: 0,
    bytes: 0,
  };
}

/** Joined, and its rows stand in their table. */
export function isShown({ stage, isApplied, load }: Lane): boolean {
  return stage === "joined" && isApplied && !load;
}

export function wasComplete({ stage, subscriber }: Lane): boolean {
  return !subscriber.changes && (stage === "joined" || stage === "held" || stage === "resuming");
}

export function unexpected(what: string, stage: string): WalcastError {
  return new WalcastError(
    "malformed_message",
    `read a message: did not expect ${what} for a subscription that is ${stage}`,
  );
}
