/**
 * Who wants messages: those of a topic, or those that name one of some keys. A topic's reader has those that name no scope, and
 * those that name one of its token's; keys are had likewise. Beside the shapes of tables it goes the same way: registries,
 * feeds and passes over the log tell them apart only where rows are read.
 */
import { messagesOid, messagesRelation } from "../changes/messages.ts";
import { oidsOf, type Table } from "../changes/table.ts";
import { digestOf } from "./digest.ts";

/** What was asked for, as this client may have it. */
export interface Messages {
  readonly topic?: string;
  readonly keys?: readonly string[];
  /** Tables whose every change is a message with their key. */
  readonly tables?: readonly { readonly key: string; readonly table: Table }[];
}

export class MessageShape {
  /** The table that there is not, and those whose changes are messages. */
  readonly table: Table;
  readonly topic: string | undefined;
  readonly keys: readonly string[];
  readonly keysByOid: ReadonlyMap<number, string>;
  readonly scopes: readonly string[];
  /** What is asked for. It is not another one with other rights: nothing of it is kept that could have to go. */
  readonly key: string;
  /** What is asked for, and by whom: equal ones get the same. */
  readonly digest: string;
  readonly columns: readonly number[] = [0];
  readonly changes = true;

  constructor({ topic, keys = [], tables = [] }: Messages, scopes: readonly string[]) {
    this.topic = topic;
    this.keys = keys;
    this.scopes = [...new Set(scopes)].sort();
    this.keysByOid = new Map(tables.flatMap(({ key, table }) => oidsOf(table).map((oid) => [oid, key] as const)));
    this.key = digestOf(JSON.stringify([topic, keys]));
    this.digest = digestOf(JSON.stringify([topic, keys, this.scopes, [...this.keysByOid]]));
    this.table = { ...noTable, leaves: [...this.keysByOid.keys()].map((oid) => ({ oid, columns: [] })) };
  }
}

const noTable: Table = {
  ...messagesRelation,
  oid: messagesOid,
  version: "",
  columns: [],
  key: [],
  identityColumns: [],
  types: [],
};
