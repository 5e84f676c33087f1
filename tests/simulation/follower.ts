/**
 * A client that keeps no rows, only what it was told: every value that was ever inserted, in the order in which it came to
 * be shown. Across connections it goes on from its position, and counts the times that it was not allowed to.
 */
import assert from "node:assert/strict";
import { WebSocket } from "ws";
import {
  decodeCommits,
  decodeFrame,
  formatLsn,
  type Frame,
  type Lsn,
  type ServerMessage,
  subprotocol,
  zeroLsn,
} from "../../engine/protocol.ts";
import { inTime } from "../support/until.ts";

export class Follower {
  readonly shown: string[] = [];
  /** Why rows came again that it had. */
  readonly refetches: string[] = [];
  failure: unknown;
  private readonly table: string;
  private socket: WebSocket | undefined;
  private epoch: string | undefined;
  private identity: string | undefined;
  private position: Lsn = zeroLsn;
  private staged: string[] = [];
  private number = 0;
  private checksum = 0;
  private joined = false;
  private changed: () => void = () => {};

  constructor(table: string) {
    this.table = table;
  }

  connect(url: string): void {
    this.staged = [];
    this.number = this.checksum = 0;
    const socket = new WebSocket(`${url.replace("http", "ws")}/v1/sync`, subprotocol, { perMessageDeflate: false });
    this.socket = socket;
    socket.on("error", () => {}); // "close" follows.
    socket.on("open", () => this.send({ kind: "hello", ...this.past }));
    socket.on("message", (data, isBinary) => this.guarded(() => this.receive(data as Buffer, isBinary)));
  }

  disconnect(): void {
    this.socket?.removeAllListeners("message");
    this.socket?.terminate();
  }

  async untilJoined(): Promise<void> {
    await this.until(() => this.joined, "its first rows");
  }

  async untilShown(count: number): Promise<void> {
    await this.until(() => this.shown.length >= count, `${count} rows`);
  }

  private get past(): object {
    return this.epoch === undefined ? {} : { epoch: this.epoch, position: formatLsn(this.position) };
  }

  private async until(condition: () => boolean, what: string): Promise<void> {
    while (!condition()) {
      if (this.failure !== undefined) throw this.failure;
      const changed = new Promise<void>((resolve) => (this.changed = resolve));
      await inTime(changed, () => `${what}; there are ${this.shown.length}`);
    }
  }

  private send(message: object): void {
    this.socket!.send(JSON.stringify(message));
  }

  private guarded(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.failure ??= error;
    }
    this.changed();
  }

  private receive(data: Buffer, isBinary: boolean): void {
    if (isBinary) return this.frame(decodeFrame(data, { number: ++this.number, previousChecksum: this.checksum }));
    const message = JSON.parse(data.toString()) as ServerMessage;
    assert.equal(message.frame, ++this.number, "every message takes the next number");
    this.control(message);
  }

  private control(message: ServerMessage): void {
    switch (message.kind) {
      case "welcome":
        return this.welcomed(message);
      case "described":
        this.identity = message.table.identity;
        return;
      case "rewind":
        this.staged = [];
        return;
      case "resync":
        return void this.refetches.push(`${message.cause.code}: ${message.cause.message}`);
      case "error":
        throw new Error(`${message.error.code}: ${message.error.message}`);
      default:
    }
  }

  private welcomed({ epoch, resumes, cause }: Extract<ServerMessage, { kind: "welcome" }>): void {
    const shape = { table: this.table };
    this.epoch = epoch;
    if (this.identity !== undefined && !resumes) this.refetches.push(cause?.message ?? "the server does not resume");
    this.send({ kind: "subscribe", id: 1, shape, ...(resumes ? { identity: this.identity } : {}) });
    if (resumes) this.send({ kind: "resume" });
  }

  private frame({ kind, checksum, sections, boundary, position }: Frame): void {
    this.checksum = checksum;
    if (kind === "join") this.joined = true;
    if (kind !== "copy") for (const { payload } of sections) this.staged.push(...insertedIn(payload));
    if (!boundary && kind !== "join") return;
    assert(position >= this.position, "a position never goes back");
    this.position = position;
    this.shown.push(...this.staged.splice(0));
  }
}

function insertedIn(payload: Uint8Array): string[] {
  return decodeCommits(payload).flatMap(({ operations }) =>
    operations.map((operation) => {
      assert(operation.kind === "insert", `only inserts were committed, found ${operation.kind}`);
      return String(operation.row[0]);
    }),
  );
}
