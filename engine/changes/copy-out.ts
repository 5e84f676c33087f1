/**
 * COPY … TO STDOUT, straight from the connection: a stream of it, with a queue and a promise for each chunk, would cost more
 * than the rows.
 * https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-COPY
 */
import type pg from "pg";

export interface RowSink {
  /** One row: Postgres sends each in a message of its own. The bytes are only valid during the call. */
  write(row: Uint8Array): void;
  /** Nobody wants the rest: the connection breaks off. */
  readonly isOver: boolean;
  /** While it is, the connection is not read. */
  readonly isFull: boolean;
  drained(): Promise<void>;
}

/** Resolves when the last row was written to the sink. */
export function copyOut(client: pg.ClientBase, select: string, sink: RowSink): Promise<void> {
  return new Promise((resolve, reject) => {
    client.query(new CopyOut(`copy (${select}) to stdout`, sink, { resolve, reject }));
  });
}

interface Outcome {
  resolve(): void;
  reject(error: Error): void;
}

/** What `pg` calls while it is the connection's query. */
class CopyOut implements pg.Submittable {
  private readonly text: string;
  private readonly sink: RowSink;
  private readonly outcome: Outcome;
  private isPaused = false;

  constructor(text: string, sink: RowSink, outcome: Outcome) {
    this.text = text;
    this.sink = sink;
    this.outcome = outcome;
  }

  submit(connection: pg.Connection): void {
    connection.query(this.text);
  }

  handleCopyData({ chunk }: { readonly chunk: Buffer }, { stream }: pg.Connection): void {
    if (this.sink.isOver) return void stream.destroy();
    this.sink.write(chunk);
    if (this.sink.isFull && !this.isPaused) void this.pause(stream);
  }

  handleCommandComplete(): void {}

  handleReadyForQuery(): void {
    this.outcome.resolve();
  }

  handleError(error: Error): void {
    this.outcome.reject(error);
  }

  private async pause(stream: pg.Connection["stream"]): Promise<void> {
    this.isPaused = true;
    stream.pause();
    await this.sink.drained();
    stream.resume();
    this.isPaused = false;
  }
}
