/**
 * A barrier is a transactional message with nothing in it: that makes a transaction worth decoding, so its commit comes by
 * in the stream, after everything that was committed before. Those who want one while another is being committed share the next:
 * a crowd costs Postgres one commit after another, and not one each.
 */
import type pg from "pg";
import type { Log } from "../log/log.ts";
import type { Lsn } from "../protocol.ts";

export class Barriers {
  private readonly control: pg.Pool;
  private readonly log: Log;
  /** Settles, and never rejects, when the one that is being committed is. */
  private committing: Promise<void> | undefined;
  private next: Promise<Lsn> | undefined;

  constructor(control: pg.Pool, log: Log) {
    this.control = control;
    this.log = log;
  }

  /** Resolves when a barrier has streamed by whose transaction began after this call. */
  passed(): Promise<Lsn> {
    if (!this.committing) return this.commit();
    this.next ??= this.committing.then(() => this.commit());
    return this.next;
  }

  private async commit(): Promise<Lsn> {
    this.next = undefined;
    const emitted = this.control.query<{ xid: string }>(
      "select pg_current_xact_id()::text as xid, pg_logical_emit_message(true, 'walcast.barrier', '')",
    );
    const over = (): void => void (this.committing === committing && (this.committing = undefined));
    const committing = emitted.then(over, over);
    this.committing = committing;
    const { rows } = await emitted;
    return this.log.committed(BigInt(rows[0]!.xid));
  }
}
