/**
 * A shape as a read-only Durable Stream of state-protocol events, for the clients of that protocol: current rows at offset -1, what
 * happened since at any other. https://github.com/durable-streams/durable-streams
 *
 * An offset says where in the log its reader is, and what its rows are rows of. Where the log leads no further from there, the reader is told which of
 * its rows are gone, and all that there are: a `reset` would leave the protocol's own client without any. For that the keys
 * that readers were told are in memory; where they are not, the answer is 410.
 */
import { WalcastError } from "../errors.ts";
import { type Commit, type Lsn, parseLsn, type ShapeRequest } from "../protocol.ts";
import { digestOf } from "../shapes/digest.ts";
import type { Shape } from "../shapes/shape.ts";
import type { Asker } from "../sockets/access.ts";
import { encodeEvent } from "../sockets/event-stream.ts";
import type { Guest } from "../sockets/guest.ts";
import { Replay } from "./replay.ts";
import { requestOf } from "./request.ts";
import type { Row } from "./rows.ts";
import { seedOf } from "./seed.ts";
import { elsewhere, StateEvents } from "./state-events.ts";
import { decodePlace, encodePlace, type Place } from "./stream-offset.ts";
import type { Memory, ToldKeys } from "./told-keys.ts";
import type { Watches } from "./watches.ts";

export interface StreamServices {
  readonly watches: Watches;
  readonly toldKeys: ToldKeys;
  readonly epoch: () => string;
  /** Why there is nothing to go on from. */
  readonly continues: (epoch: string, position: Lsn) => Promise<unknown>;
}

/** `/v1/stream/:table`, with `where`, `params` and `columns` as `/v1/watch/:table` has them. */
export async function serveStream(guest: Guest, services: StreamServices): Promise<void> {
  const [table = "", ...rest] = guest.parts;
  if (rest.length > 0) throw new WalcastError("malformed_message", "read a request: expected a table and no more");
  const request = requestOf(table, guest.query, ["offset", "live", "cursor"]);
  const asker = services.watches.asker(guest.signal, guest.address);
  const shape = await services.watches.resolve(request, guest.auth, asker, true);
  await new Stream({ guest, services, request, asker }, shape).serve(guest.query.get("offset") ?? "-1");
}

/** A table may change while it is read. */
const attempts = 5;

interface StreamOptions {
  readonly guest: Guest;
  readonly services: StreamServices;
  readonly request: ShapeRequest;
  readonly asker: Asker;
}

class Stream {
  private readonly guest: Guest;
  private readonly services: StreamServices;
  private readonly request: ShapeRequest;
  private readonly asker: Asker;
  private readonly live: string | null;
  private shape!: Shape;
  private meaning!: string;
  private audience!: string;
  private memory!: Memory;
  private events!: StateEvents;
  /** Up to where the reader was told. */
  private place!: Place;

  constructor({ guest, services, request, asker }: StreamOptions, shape: Shape) {
    this.guest = guest;
    this.services = services;
    this.request = request;
    this.asker = asker;
    this.live = guest.query.get("live");
    this.take(shape);
  }

  async serve(offset: string): Promise<void> {
    const isNow = offset === "now";
    let go = (): Promise<void> => this.goOn();
    if (offset === "-1" || isNow || this.guest.isHead) {
      const events = await this.begin(isNow || this.guest.isHead);
      go = () => this.tell(events, isNow);
    } else this.place = decodePlace(offset);
    for (;;) {
      try {
        return await go();
      } catch (error) {
        if (!isElsewhere(error)) throw error;
      }
      const events = await this.resync();
      go = () => this.tell(events);
    }
  }

  private take(shape: Shape): void {
    const { where, params, columns } = this.request;
    this.shape = shape;
    // Of another history, form or right an offset means nothing.
    this.meaning = digestOf(`${this.services.epoch()} ${shape.key}`);
    this.audience = digestOf(JSON.stringify([shape.right, where, params, columns]));
    this.memory = this.services.toldKeys.of(this.meaning, this.audience);
    this.events = new StateEvents(shape, this.memory);
  }

  /** The rows as they are, unless only what comes after them is wanted. */
  private async begin(isNow: boolean): Promise<string[]> {
    const { rows, position } = await this.rows();
    const keys = rows.map((row) => this.events.keyOf(row));
    if (!isNow) this.memory.tellAll(keys, position);
    this.place = { position, meaning: this.meaning, memory: this.memory.id };
    return isNow ? [] : rows.map((row) => this.events.insertion(row));
  }

  /** What makes of the rows that the reader has those that there are. */
  private async resync(): Promise<string[]> {
    const { memory: id, position: from } = this.place;
    const memory = this.services.toldKeys.find(id, this.audience);
    if (!memory?.covers(from)) throw elsewhere();
    const { rows, position } = await this.rows();
    // Forgotten meanwhile, or another right by now.
    if (!memory.covers(from) || memory.audience !== this.audience) throw elsewhere();
    const keys = new Set(rows.map((row) => this.events.keyOf(row)));
    const gone = memory.keys().filter((key) => !keys.has(key));
    if (memory === this.memory) for (const key of gone) memory.untell(key, position);
    this.memory.tellAll(keys, position);
    this.place = { position, meaning: this.meaning, memory: this.memory.id };
    return [...gone.map((key) => this.events.deletion(key)), ...rows.map((row) => this.events.insertion(row))];
  }

  /** As they are now, in the form that the table has now. */
  private async rows(): Promise<{ rows: readonly Row[]; position: Lsn }> {
    const { watches, epoch } = this.services;
    const { auth, address } = this.guest;
    for (let attempt = 1; attempt <= attempts; attempt++) {
      const seed = await seedOf(watches, epoch, { rows: this.request }, auth, address);
      const { table, rows } = seed.shapes.rows;
      if (table.version !== this.shape.table.version)
        this.take(await watches.resolve(this.request, auth, this.asker, true));
      if (table.version === this.shape.table.version) return { rows, position: parseLsn(seed.position) };
    }
    throw elsewhere();
  }

  /** `mayWait`: where there is nothing, for what comes next. */
  private async tell(events: readonly string[], mayWait = false): Promise<void> {
    const { position } = this.place;
    if (this.guest.isHead) this.reply([], position);
    else if (this.live === "sse") await this.follow(position, events);
    else if (mayWait && this.live === "long-poll") await this.collect(position, true);
    else this.reply(events, position);
  }

  private async goOn(): Promise<void> {
    const { position, meaning } = this.place;
    const { epoch, continues } = this.services;
    if (meaning !== this.meaning || (await continues(epoch(), position)) !== undefined) throw elsewhere();
    if (this.guest.signal.aborted) return;
    if (this.live === "sse") await this.follow(position);
    else await this.collect(position, this.live === "long-poll");
  }

  /** One answer: what there is; `mayWait`: or what comes next. */
  private async collect(position: Lsn, mayWait: boolean): Promise<void> {
    const answer = Promise.withResolvers<void>();
    const events: string[] = [];
    let reached = position;
    let isLive = false;
    const replay = this.replay(answer.reject, {
      commits: (commits, at) => {
        for (const commit of commits) events.push(...this.events.ofCommit(commit));
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
    if (!this.guest.signal.aborted) this.reply(events, reached);
  }

  private async follow(position: Lsn, first: readonly string[] = []): Promise<void> {
    const over = Promise.withResolvers<void>();
    const stream = this.guest.events();
    let isLive = false;
    const send = (events: readonly string[], at: Lsn): void => {
      const data = events.length === 0 ? "" : encodeEvent({ event: "data", data: `[${events.join(",")}]` });
      const isCurrent = isLive ? { upToDate: true } : {};
      const control = { streamNextOffset: this.advance(at), streamCursor: cursor(), ...isCurrent };
      const bytes = Buffer.from(data + encodeEvent({ event: "control", data: JSON.stringify(control) }));
      // It comes back with its offset.
      if (stream.takes(bytes.length)) stream.send(bytes);
      else stream.end();
    };
    const replay = this.replay(over.reject, {
      commits: (commits, at) =>
        send(
          commits.flatMap((commit) => this.events.ofCommit(commit)),
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

  private reply(events: readonly string[], position: Lsn): void {
    const { guest } = this;
    const next = this.advance(position);
    const etag = `"${guest.query.get("offset") ?? "-1"}:${next}"`;
    const headers: [string, string][] = [
      ["Stream-Next-Offset", next],
      ["Stream-Up-To-Date", "true"],
      ["Stream-Cursor", cursor()],
      ["ETag", etag],
      ["Cache-Control", "private, no-cache"],
      ["Access-Control-Expose-Headers", "Stream-Next-Offset, Stream-Up-To-Date, Stream-Cursor, ETag"],
    ];
    const isLive = this.live !== null;
    if (isLive && events.length === 0) return guest.reply("204 No Content", headers, "");
    if (!isLive && guest.ifNoneMatch === etag) return guest.reply("304 Not Modified", headers, "");
    guest.reply("200 OK", [["Content-Type", "application/json"], ...headers], `[${events.join(",")}]`);
  }

  /** The reader was told up to here. Gives its offset. */
  private advance(position: Lsn): string {
    const { meaning, memory } = this;
    const isKnown = this.place.memory === memory.id || memory.takesIn(this.place.position, position);
    this.place = { position, meaning, memory: isKnown ? memory.id : this.place.memory };
    return encodePlace(this.place);
  }
}

/** So that answers to those who wait for the same can be told apart from earlier ones. */
function cursor(): string {
  return String(Math.floor(Date.now() / 20_000));
}

function isElsewhere(error: unknown): boolean {
  return error instanceof WalcastError && error.code === "position_too_old";
}
