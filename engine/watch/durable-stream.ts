/**
 * A shape as a read-only Durable Stream of state-protocol events, for the clients of that protocol: current rows at offset -1, what
 * happened since at any other. https://github.com/durable-streams/durable-streams
 *
 * Nothing is kept for a reader: an offset says where in the log it is, and what its rows are rows of.
 */
import { WalcastError } from "../errors.ts";
import { type Commit, type Lsn, parseLsn, type ShapeRequest } from "../protocol.ts";
import { digestOf } from "../shapes/digest.ts";
import type { Shape } from "../shapes/shape.ts";
import { encodeEvent } from "../sockets/event-stream.ts";
import type { Guest } from "../sockets/guest.ts";
import { jsonOf } from "./json.ts";
import { Replay } from "./replay.ts";
import { requestOf } from "./request.ts";
import type { Row } from "./rows.ts";
import { seedOf } from "./seed.ts";
import type { Watches } from "./watches.ts";

export interface StreamServices {
  readonly watches: Watches;
  readonly epoch: () => string;
  /** Why there is nothing to go on from. */
  readonly continues: (epoch: string, position: Lsn) => Promise<unknown>;
}

/** `/v1/stream/:table`, with `where`, `params` and `columns` as `/v1/watch/:table` has them. */
export async function serveStream(guest: Guest, services: StreamServices): Promise<void> {
  const [table = "", ...rest] = guest.parts;
  if (rest.length > 0) throw new WalcastError("malformed_message", "read a request: expected a table and no more");
  const request = requestOf(table, guest.query, ["offset", "live", "cursor"]);
  const shape = await services.watches.resolve(request, guest.auth, guest.signal, true);
  const stream = new Stream(guest, services, request, shape);
  const offset = guest.query.get("offset") ?? "-1";
  if (offset === "-1" || offset === "now" || guest.isHead) return stream.begin(offset === "now");
  return stream.since(offset);
}

class Stream {
  private readonly guest: Guest;
  private readonly services: StreamServices;
  private readonly request: ShapeRequest;
  private readonly shape: Shape;
  private readonly type: string;

  constructor(guest: Guest, services: StreamServices, request: ShapeRequest, shape: Shape) {
    this.guest = guest;
    this.services = services;
    this.request = request;
    this.shape = shape;
    const { schema, name } = shape.table;
    this.type = schema === "public" ? name : `${schema}.${name}`;
  }

  /** At the rows as they are, which are told unless only what comes after them is wanted. */
  async begin(isNow: boolean): Promise<void> {
    const { watches, epoch } = this.services;
    const seed = await seedOf(watches, epoch, { rows: this.request }, this.guest.auth);
    if (seed.shapes.rows.table.version !== this.shape.table.version) throw elsewhere();
    const position = parseLsn(seed.position);
    const rows = isNow || this.guest.isHead ? [] : seed.shapes.rows.rows;
    const events = rows.map((row) => this.event("insert", row, {}));
    const live = this.guest.query.get("live");
    if (this.guest.isHead || (live !== "sse" && !(isNow && live === "long-poll")))
      return this.reply(events, this.offsetAt(position));
    if (live === "sse") await this.follow(position, events);
    else await this.collect(position, true);
  }

  async since(offset: string): Promise<void> {
    const position = this.positionOf(offset);
    const { epoch, continues } = this.services;
    if ((await continues(epoch(), position)) !== undefined) throw elsewhere();
    if (this.guest.signal.aborted) return;
    const live = this.guest.query.get("live");
    if (live === "sse") await this.follow(position);
    else await this.collect(position, live === "long-poll");
  }

  /** One answer: what there is; `mayWait`: or what comes next. */
  private async collect(position: Lsn, mayWait: boolean): Promise<void> {
    const answer = Promise.withResolvers<void>();
    const events: string[] = [];
    let reached = position;
    let isLive = false;
    const replay = this.replay(answer.reject, {
      commits: (commits, at) => {
        for (const commit of commits) events.push(...this.eventsOf(commit));
        reached = at;
        if (isLive && events.length > 0) answer.resolve();
      },
      live: () => {
        isLive = true;
        if (events.length > 0 || !mayWait) answer.resolve();
      },
    });
    const { heartbeatMs } = this.services.watches.services.config;
    const timer = setTimeout(() => answer.resolve(), heartbeatMs);
    this.guest.signal.addEventListener("abort", () => answer.resolve(), { once: true });
    try {
      await Promise.race([replay.start(this.shape.key, position).then(() => answer.promise), answer.promise]);
    } finally {
      clearTimeout(timer);
      replay.close();
    }
    if (!this.guest.signal.aborted) this.reply(events, this.offsetAt(reached));
  }

  private async follow(position: Lsn, first: readonly string[] = []): Promise<void> {
    const over = Promise.withResolvers<void>();
    const stream = this.guest.events();
    let isLive = false;
    const send = (events: readonly string[], at: Lsn): void => {
      const data = events.length === 0 ? "" : encodeEvent({ event: "data", data: `[${events.join(",")}]` });
      const isCurrent = isLive ? { upToDate: true } : {};
      const control = { streamNextOffset: this.offsetAt(at), streamCursor: cursor(), ...isCurrent };
      const bytes = Buffer.from(data + encodeEvent({ event: "control", data: JSON.stringify(control) }));
      // It comes back with its offset.
      if (stream.takes(bytes.length)) stream.send(bytes);
      else stream.end();
    };
    const replay = this.replay(over.reject, {
      commits: (commits, at) =>
        send(
          commits.flatMap((commit) => this.eventsOf(commit)),
          at,
        ),
      live: (at) => {
        isLive = true;
        send([], at > position ? at : position);
      },
    });
    if (first.length > 0) send(first, position);
    this.guest.signal.addEventListener("abort", () => over.resolve(), { once: true });
    try {
      await replay.start(this.shape.key, position);
      await over.promise;
    } finally {
      replay.close();
    }
  }

  private replay(
    failed: (reason: unknown) => void,
    told: { commits(commits: readonly Commit[], at: Lsn): void; live(at: Lsn): void },
  ): Replay {
    return new Replay(this.services.watches.services.hub, this.shape, {
      onCommits: (commits, at) => {
        try {
          told.commits(commits, at);
        } catch (error) {
          failed(error);
        }
      },
      onLive: (at) => told.live(at),
      onOver: () => failed(elsewhere()),
    });
  }

  private eventsOf({ operations, xid, commitTime }: Commit): string[] {
    const headers = {
      txid: String(xid),
      timestamp: new Date(Number(commitTime / 1000n) + postgresEpochMs).toISOString(),
    };
    return operations.flatMap((operation): string[] => {
      // Of rows that are gone together nobody knows the keys.
      if (operation.kind === "truncate") throw elsewhere();
      if (operation.kind === "insert") return [this.event("insert", operation.row as Row, headers)];
      if (operation.kind === "delete") return [this.event("delete", operation.old as Row, headers)];
      const old = operation.old as Row;
      const row = operation.row.map((value, i) => (value === undefined ? old[i]! : value));
      if (this.keyOf(old) === this.keyOf(row)) return [this.event("update", row, headers)];
      return [this.event("delete", old, headers), this.event("insert", row, headers)];
    });
  }

  private event(operation: "insert" | "update" | "delete", row: Row, headers: object): string {
    const value = operation === "delete" ? "" : `,"value":${jsonOf(this.shape)(row)}`;
    const head = JSON.stringify({ operation, ...headers });
    return `{"type":${JSON.stringify(this.type)},"key":${JSON.stringify(this.keyOf(row))}${value},"headers":${head}}`;
  }

  /** As text; of several columns with a slash between them, each percent-encoded. */
  private keyOf(row: Row): string {
    const { columns, table } = this.shape;
    const values = table.key.map((position) => row[columns.indexOf(position)] ?? "");
    return values.length === 1 ? values[0]! : values.map(encodeURIComponent).join("/");
  }

  private reply(events: readonly string[], next: string): void {
    const { guest } = this;
    const etag = `"${guest.query.get("offset") ?? "-1"}:${next}"`;
    const headers: [string, string][] = [
      ["Stream-Next-Offset", next],
      ["Stream-Up-To-Date", "true"],
      ["Stream-Cursor", cursor()],
      ["ETag", etag],
      ["Cache-Control", "private, no-cache"],
      ["Access-Control-Expose-Headers", "Stream-Next-Offset, Stream-Up-To-Date, Stream-Cursor, ETag"],
    ];
    const isLive = guest.query.get("live") !== null;
    if (isLive && events.length === 0) return guest.reply("204 No Content", headers, "");
    if (!isLive && guest.ifNoneMatch === etag) return guest.reply("304 Not Modified", headers, "");
    guest.reply("200 OK", [["Content-Type", "application/json"], ...headers], `[${events.join(",")}]`);
  }

  /** Fixed in width, so that their order is the order of texts; the index is that of an event inside its commit, of which all are told. */
  private offsetAt(position: bigint): string {
    return `${position.toString(16).padStart(16, "0")}_00000000_${this.meaning}`;
  }

  private positionOf(offset: string): Lsn {
    const [, position, meaning] = /^([0-9a-f]{16})_0{8}_([\w-]+)$/.exec(offset) ?? [];
    if (position === undefined)
      throw new WalcastError("malformed_message", "read an offset: expected -1, or one that came in an answer");
    if (meaning !== this.meaning) throw elsewhere();
    return BigInt(`0x${position}`) as Lsn;
  }

  /** Of another history, form or right it means nothing. */
  private get meaning(): string {
    return digestOf(`${this.services.epoch()} ${this.shape.key}`);
  }
}

/** Microseconds since 2000-01-01 in Postgres. */
const postgresEpochMs = Date.UTC(2000, 0, 1);

/** So that answers to those who wait for the same can be told apart from earlier ones. */
function cursor(): string {
  return String(Math.floor(Date.now() / 20_000));
}

/** 410 Gone */
function elsewhere(): WalcastError {
  return new WalcastError("position_too_old", "read a stream: from this offset nothing goes on any more", {
    hint: "begin again at offset -1",
  });
}
