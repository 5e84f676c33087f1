/**
 * Changes of one table's rows that are routed together, in order. Among a million shapes each change waits several times for memory that
 * nobody has looked at for long: what many changes need is fetched in the time that one of them would wait.
 */
import { decodeMessage } from "../changes/pgoutput.ts";
import { Message } from "../changes/pgoutput-message.ts";
import type { Transaction } from "../changes/transaction.ts";
import { Tuple } from "../changes/tuple.ts";
import { Rearranged, type RowChange } from "./partitions.ts";

/** A processor fetches about so much at a time. */
const changesMax = 16;

export class Batch {
  count = 0;
  private readonly transactions: (Transaction | undefined)[] = [];
  readonly changes: RowChange[] = [];
  // By the change's place, made when they are first needed.
  private readonly messages: Message[] = [];
  private readonly rearranged: Rearranged[] = [];
  private readonly merged: Tuple[] = [];

  get isFull(): boolean {
    return this.count === changesMax;
  }

  /** The change that is bytes[start … end); of a leaf with the root's `columns`, where these are others. */
  add(
    transaction: Transaction,
    bytes: Buffer,
    start: number,
    end: number,
    columns: readonly number[] | undefined,
  ): void {
    const place = this.count;
    const message = decodeMessage(bytes, start, end, (this.messages[place] ??= new Message()));
    this.transactions[place] = transaction;
    this.changes[place] = columns ? (this.rearranged[place] ??= new Rearranged()).of(message, columns) : message;
    this.count++;
  }

  /** For a row that is made of both that came. */
  mergedOf(place: number): Tuple {
    return (this.merged[place] ??= new Tuple());
  }

  transactionOf(place: number): Transaction {
    return this.transactions[place]!;
  }

  /** Nothing of the transactions is kept: the next ones may not be as many. */
  clear(): void {
    for (let i = 0; i < this.count; i++) {
      this.transactions[i] = undefined;
      this.messages[i]!.bytes = nothing;
      forget(this.messages[i]!);
      forget(this.changes[i]!);
      const merged = this.merged[i];
      if (merged) merged.bytes = nothing;
    }
    this.count = 0;
  }
}

const nothing = Buffer.alloc(0);

function forget({ old, new: row }: RowChange): void {
  old.bytes = row.bytes = nothing;
}
