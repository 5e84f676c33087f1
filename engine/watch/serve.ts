/**
 * Current states for anything that has EventSource: a table's rows and what happens to them, or the rows with certain keys. A
 * reader that cannot keep up is not sent what it missed, but what there is now.
 */
import { WalcastError } from "../errors.ts";
import type { ShapeRequest } from "../protocol.ts";
import type { Shape } from "../shapes/shape.ts";
import { quoteIdentifier } from "../shapes/name.ts";
import { requestOf } from "./request.ts";
import type { EventStream } from "../sockets/event-stream.ts";
import type { Guest } from "../sockets/guest.ts";
import { commitEvents, rowEvent, rowsEvent, stateEvent } from "./events.ts";
import type { CommitChanges } from "./reader.ts";
import type { Follower, Watch } from "./watch.ts";
import type { Watches } from "./watches.ts";

/** `/v1/watch/:table`, `/v1/watch/:table/:key`. Ends when the guest is gone. */
export async function serveWatch(guest: Guest, watches: Watches): Promise<void> {
  const asker = watches.asker(guest.signal, guest.address);
  const [table = "", ...key] = guest.parts;
  const request = requestOf(table, guest.query, ["key"]);
  const keys = key.length > 0 ? [key] : guest.query.getAll("key");
  // Refused before the answer begins, so that it has a status.
  const shape = await watches.resolve(request, guest.auth, asker);
  const requests = keys.length === 0 ? [request] : requestsOf(request, shape, keys, watches);
  const shapes =
    keys.length === 0 ? [shape] : await Promise.all(requests.map((one) => watches.resolve(one, guest.auth, asker)));
  if (guest.signal.aborted) return;
  const sink = new Sink(guest.events(), keys.length === 0 ? changes : { state: key.length > 0 ? rowEvent : rowsEvent });
  await watches.follow(requests, guest.auth, sink, guest.signal, asker, shapes);
}

const changes: Encode = { state: stateEvent, commit: commitEvents };

interface Encode {
  readonly state: (watch: Watch) => Uint8Array;
  /** Without it, every commit is told by the state that it leads to. */
  readonly commit?: (watch: Watch, commit: CommitChanges) => Uint8Array;
}

class Sink implements Follower {
  private readonly stream: EventStream;
  private readonly encode: Encode;
  /** It missed something, and waits for room for what there is then. */
  private missed: Watch | undefined;

  constructor(stream: EventStream, encode: Encode) {
    this.stream = stream;
    this.encode = encode;
  }

  onState(watch: Watch): void {
    if (this.missed) this.missed = watch;
    else if (this.stream.takes(0)) this.sendState(watch);
    else this.miss(watch);
  }

  onCommit(watch: Watch, commit: CommitChanges): void {
    if (this.missed) return;
    const events = this.encode.commit?.(watch, commit) ?? this.encode.state(watch);
    if (this.stream.takes(events.length)) this.stream.send(events);
    else this.miss(watch);
  }

  private miss(watch: Watch): void {
    this.missed = watch;
    void this.catchUp();
  }

  private async catchUp(): Promise<void> {
    await this.stream.drained();
    const { missed } = this;
    this.missed = undefined;
    if (missed && !missed.isOver && !this.stream.isOver) this.sendState(missed);
  }

  private sendState(watch: Watch): void {
    this.stream.send(this.encode.state(watch), { counts: false });
  }
}

/** One shape a key, so that each is found by the index over predicates, and shared with who watches it alone. */
function requestsOf(
  { table, columns, where }: ShapeRequest,
  shape: Shape,
  keys: readonly (string | readonly string[])[],
  { services }: Watches,
): ShapeRequest[] {
  if (where !== undefined)
    throw new WalcastError("malformed_message", "read a request: expected either a key or a where");
  const max = services.config.limits.shapesPerConnection;
  if (keys.length > max)
    throw new WalcastError("too_many", `watch: expected at most ${max} keys`, {
      hint: "raise limits.shapesPerConnection",
    });
  const names = shape.table.key.map((position) => shape.table.columns[position]!.name);
  return keys.map((key) => ({
    table,
    ...(columns === undefined ? {} : { columns }),
    where: names.map((name, i) => `${quoteIdentifier(name)} = $${i + 1}`).join(" AND "),
    params: valuesOf(key, names),
  }));
}

/** In the key's order: parts of the path, or the same in one parameter, divided by `/` where the key has several columns. */
function valuesOf(key: string | readonly string[], names: readonly string[]): readonly string[] {
  const values = typeof key !== "string" ? key : names.length === 1 ? [key] : key.split("/").map(decoded);
  if (values.length === names.length) return values;
  throw new WalcastError(
    "malformed_message",
    `read a key: expected ${names.length} parts (${names.join(", ")}), found ${values.length}`,
  );
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw new WalcastError("malformed_message", "read a key: expected percent-encoded UTF-8");
  }
}
