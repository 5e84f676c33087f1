/**
 * `/v1/topics/:topic`: a topic's messages as Server-Sent Events. An event's id is its transaction's position, so a browser that
 * comes back with `Last-Event-ID` goes on after it. Of several messages of one transaction all but the last have their number
 * behind the position, so that it goes on in the middle of them, too.
 */
import { type Commit, type ErrorJson, formatLsn, type Lsn, parseLsn, zeroLsn } from "../protocol.ts";
import { WalcastError } from "../errors.ts";
import { encodeEvent, type EventStream } from "../sockets/event-stream.ts";
import type { Guest } from "../sockets/guest.ts";
import type { From } from "../sockets/history.ts";
import { messagesFor, type TopicServices } from "../sockets/topics.ts";
import type { Hub } from "../sockets/hub.ts";
import { MessageReader } from "./reader.ts";

export interface ServeTopicServices extends TopicServices {
  readonly hub: Hub;
  readonly continues: (position: Lsn) => Promise<ErrorJson | undefined>;
}

export async function serveTopic(guest: Guest, services: ServeTopicServices): Promise<void> {
  const [topic = "", ...rest] = guest.parts;
  if (rest.length > 0) throw malformed("expected /v1/topics/ and one topic");
  requireKnown(guest.query);
  const left = leftOf(guest.lastEventId ?? guest.query.get("since") ?? undefined);
  const limit = limitOf(guest.query.get("limit"));
  // Refused before the answer begins, so that it has a status.
  const shape = await messagesFor(services, { topic }, guest.auth);
  const cause = left && (await services.continues(left.position));
  if (guest.signal.aborted) return;
  const from: From = {
    ...(left && cause?.code !== "history_changed" ? { since: left.since } : {}),
    // Who comes back wants what it missed, not the newest again.
    ...(limit === undefined || guest.lastEventId !== undefined ? {} : { limit }),
    ...(cause ? { cause } : {}),
  };
  const events = new MessageEvents(guest.events(), cause ? undefined : left);
  const reader = new MessageReader(services.hub, shape, events, (error) => guest.end(error));
  guest.signal.addEventListener("abort", () => reader.close(), { once: true });
  reader.start(from);
}

/** So many messages of the transaction that ends at `position` were told; undefined: all. */
interface Left {
  readonly position: Lsn;
  readonly since: Lsn;
  readonly told: number | undefined;
}

/** Holds the latest message back until it is known whether it is its transaction's last. */
export class MessageEvents {
  readonly stream: EventStream;
  /** The transaction that is being told, how many of its messages came, and how many of those were told, now or earlier. */
  private at: Lsn | undefined;
  private came = 0;
  private told = 0;
  private held: string | undefined;
  /** Transactions up to here were told as a whole. */
  private done: Lsn = zeroLsn;

  constructor(stream: EventStream, left: Left | undefined) {
    this.stream = stream;
    if (left?.told === undefined) return;
    this.at = left.position;
    this.told = left.told;
  }

  listening(from: string, cause: ErrorJson | undefined): void {
    if (cause) this.send(encodeEvent({ event: "missed", data: JSON.stringify(cause) }));
    this.send(encodeEvent({ event: "listening", data: JSON.stringify({ from }) }));
  }

  commit({ position, operations }: Commit): void {
    if (position <= this.done) return;
    if (position !== this.at) {
      this.boundary();
      if (this.came > 0) this.done = this.at!;
      this.at = position;
      this.came = this.told = 0;
    }
    for (const operation of operations) if (operation.kind === "insert") this.message(String(operation.row[0]));
  }

  /** What was told since the last boundary comes again. */
  rewind(): void {
    this.held = undefined;
    this.came = 0;
  }

  /** All of the transaction has come. */
  boundary(): void {
    if (this.held === undefined) return;
    this.tell(formatLsn(this.at!), this.held);
  }

  /** Nothing is told, but who comes back need not go back further than that. */
  position(position: Lsn): void {
    this.send(`id: ${formatLsn(position)}\n\n`);
  }

  private message(text: string): void {
    if (this.held !== undefined) this.tell(`${formatLsn(this.at!)}.${this.told + 1}`, this.held);
    if (++this.came > this.told) this.held = text;
  }

  private tell(id: string, data: string): void {
    this.held = undefined;
    this.told++;
    this.send(encodeEvent({ id, data }));
  }

  private send(text: string): void {
    this.stream.send(Buffer.from(text));
  }
}

function leftOf(id: string | undefined): Left | undefined {
  if (id === undefined || id === "") return undefined;
  const [, position = "", told] = /^([^.]+)(?:\.(\d{1,9}))?$/.exec(id) ?? [];
  const at = parsePosition(position);
  return told === undefined || at === zeroLsn
    ? { position: at, since: at, told: undefined }
    : { position: at, since: (at - 1n) as Lsn, told: Number(told) };
}

function parsePosition(text: string): Lsn {
  try {
    return parseLsn(text);
  } catch {
    throw malformed("expected Last-Event-ID, or since, as the id of an event");
  }
}

function limitOf(text: string | null): number | undefined {
  if (text === null) return undefined;
  if (/^\d{1,5}$/.test(text) && Number(text) <= 10_000) return Number(text);
  throw malformed("expected limit as a whole number up to 10000");
}

function requireKnown(query: URLSearchParams): void {
  if ([...query.keys()].every((name) => name === "since" || name === "limit")) return;
  throw new WalcastError("malformed_message", "read a request: expected since or limit, found another name", {
    hint: "a token goes into the Authorization header, or the cookie that the config names",
  });
}

function malformed(found: string): WalcastError {
  return new WalcastError("malformed_message", `read a request: ${found}`);
}
