/**
 * COPY … TO STDOUT, straight from the connection: an object and an event for each row, as `pg` has them, would cost more than
 * the row. So while rows come, their bytes are taken from the socket as they are, and whatever else comes is left to `pg`.
 * https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-COPY
 */
import type pg from "pg";

export interface RowSink {
  /** One row: Postgres sends each in a message of its own. The bytes are only valid during the call. */
  write(bytes: Buffer, from: number, to: number): void;
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

type Stream = pg.Connection["stream"];
type OnData = (chunk: Buffer) => void;

const copyData = 0x64;
const copyOutResponse = 0x48;
/** The tag, and a length that counts itself. https://www.postgresql.org/docs/current/protocol-message-formats.html */
const tagBytes = 1;
const headBytes = 5;
/** Of a row that comes in several chunks. One that is larger is left to `pg`, which makes room for it in larger steps. */
const splitBytesMax = 1 << 20;

/** What `pg` calls while it is the connection's query. */
class CopyOut implements pg.Submittable {
  private readonly text: string;
  private readonly sink: RowSink;
  private readonly outcome: Outcome;
  private isPaused = false;
  /** A message that has come in part. */
  private left: Buffer = Buffer.alloc(0);

  constructor(text: string, sink: RowSink, outcome: Outcome) {
    this.text = text;
    this.sink = sink;
    this.outcome = outcome;
  }

  submit(connection: pg.Connection): void {
    const { stream } = connection;
    const theirs = stream.listeners("data") as OnData[];
    const ours = (chunk: Buffer): void => {
      const rest = this.take(chunk, stream);
      if (!rest) return;
      stream.off("data", ours);
      for (const one of theirs) stream.on("data", one);
      for (const one of theirs) one(rest);
    };
    for (const one of theirs) stream.off("data", one);
    stream.on("data", ours);
    connection.query(this.text);
  }

  /** Rows, whole ones. Gives what begins with something else, which is not ours to read, nor is what follows. */
  private take(chunk: Buffer, stream: Stream): Buffer | undefined {
    const bytes = this.left.length > 0 ? Buffer.concat([this.left, chunk]) : chunk;
    let at = 0;
    while (at + headBytes <= bytes.length) {
      const tag = bytes[at];
      const end = at + tagBytes + bytes.readUInt32BE(at + tagBytes);
      if ((tag !== copyData && tag !== copyOutResponse) || end - at > splitBytesMax) return bytes.subarray(at);
      if (end > bytes.length) break;
      if (tag === copyData) this.write(bytes, at + headBytes, end, stream);
      at = end;
    }
    this.left = Buffer.from(bytes.subarray(at));
    return undefined;
  }

  private write(bytes: Buffer, from: number, to: number, stream: Stream): void {
    if (this.sink.isOver) return void stream.destroy();
    this.sink.write(bytes, from, to);
    if (this.sink.isFull && !this.isPaused) void this.pause(stream);
  }

  private async pause(stream: Stream): Promise<void> {
    this.isPaused = true;
    stream.pause();
    await this.sink.drained();
    stream.resume();
    this.isPaused = false;
  }

  handleCopyData({ chunk }: { readonly chunk: Buffer }, { stream }: pg.Connection): void {
    this.write(chunk, 0, chunk.length, stream);
  }

  handleCommandComplete(): void {}

  handleReadyForQuery(): void {
    this.outcome.resolve();
  }

  handleError(error: Error): void {
    this.outcome.reject(error);
  }
}
