/**
 * One client's connection: greeted with a token, then any number of subscriptions, until either side ends it.
 *
 *     greeting ──hello──▶ verifying ──▶ open ──▶ over
 */
import { type Auth, type Config, ruleFor } from "../config.ts";
import type { Tables } from "../changes/tables.ts";
import { unknownTable } from "../changes/catalog.ts";
import { type ClientMessage, closeCodes, formatLsn, parseLsn, type ShapeRequest, WalcastError } from "../protocol.ts";
import { parseTableName } from "../shapes/name.ts";
import { readRule, resolveShape, type Shape } from "../shapes/shape.ts";
import { Frames, type Socket } from "./frames.ts";
import type { Hub } from "./hub.ts";
import { Lane } from "./lane.ts";
import { parseClientMessage } from "./messages.ts";
import type { Xids } from "./xids.ts";

export interface SessionServices {
  readonly config: Config;
  readonly hub: Hub;
  readonly tables: Tables;
  readonly xids: Xids;
  /** Identifies this history of this database. */
  readonly epoch: () => string;
}

/** Each holds a promise and perhaps a query; a client that waits for its own writes has a handful. */
const awaitsPerConnection = 100;

type State = "greeting" | "verifying" | "open" | "over";

export class Session {
  readonly frames: Frames;
  private readonly socket: Socket;
  private readonly services: SessionServices;
  private readonly lanes = new Map<number, Lane>();
  private readonly helloTimer: NodeJS.Timeout;
  private expiryTimer: NodeJS.Timeout | undefined;
  private state: State = "greeting";
  private auth: Auth = { claims: {}, scopes: [] };
  private lastId = 0;
  private awaiting = 0;

  constructor(socket: Socket, services: SessionServices) {
    this.socket = socket;
    this.services = services;
    const { limits } = services.config;
    this.frames = new Frames(socket, limits.backlogBytesPerConnection, services.hub.counters);
    this.helloTimer = setTimeout(
      () =>
        this.refuse(
          new WalcastError("hello_timeout", `greet: expected hello within ${limits.helloMs} ms`),
          closeCodes.tooSlowToGreet,
        ),
      limits.helloMs,
    );
  }

  receive(bytes: Buffer, isBinary: boolean): void {
    if (this.state === "over") return;
    const { messageBytes } = this.services.config.limits;
    if (bytes.length > messageBytes)
      return this.refuse(
        new WalcastError(
          "too_large",
          `read a client's message: expected at most ${messageBytes} bytes, found ${bytes.length}`,
        ),
        closeCodes.tooLarge,
      );
    try {
      if (isBinary) throw new WalcastError("malformed_message", "read a client's message: expected text, found binary");
      this.handle(parseClientMessage(bytes.toString("utf8")));
    } catch (error) {
      if (!(error instanceof WalcastError)) throw error;
      this.refuse(error, closeCodes.malformed);
    }
  }

  drained(): void {
    this.frames.drained();
  }

  /** The socket is gone. */
  closed(): void {
    this.state = "over";
    clearTimeout(this.helloTimer);
    clearTimeout(this.expiryTimer);
    this.frames.end();
    this.services.hub.disconnected(this.frames);
    for (const lane of this.lanes.values()) lane.end();
    this.lanes.clear();
  }

  close(code: number, reason: string): void {
    if (this.state === "over") return;
    this.closed();
    this.socket.end(code, reason);
  }

  private refuse(error: WalcastError, code: number): void {
    this.frames.control({ kind: "error", error: error.toJSON() });
    this.close(code, error.code);
  }

  private handle(message: ClientMessage): void {
    if (message.kind === "hello") {
      if (this.state !== "greeting")
        throw new WalcastError("malformed_message", "greet: expected one hello, found another");
      return void this.greet(message.token);
    }
    if (this.state !== "open")
      throw new WalcastError(
        "hello_expected",
        `expected hello, and welcome before anything else, found ${message.kind}`,
      );
    if (message.kind === "subscribe") this.subscribe(message.id, message.shape, message.changes ?? false);
    else if (message.kind === "unsubscribe") this.unsubscribe(message.id);
    else if (message.kind === "await") void this.await(message);
  }

  private async greet(token: string | undefined): Promise<void> {
    this.state = "verifying";
    try {
      this.auth = await this.services.config.auth.verify(token);
    } catch (error) {
      const refusal =
        error instanceof WalcastError
          ? error
          : new WalcastError("unauthenticated", "verify the token: the verifier failed", { cause: error });
      return this.refuse(refusal, closeCodes.unauthenticated);
    }
    if ((this.state as State) === "over") return;
    clearTimeout(this.helloTimer);
    this.state = "open";
    this.expireAt(this.auth.expiresAt);
    this.welcome();
  }

  private welcome(): void {
    const { hub, config, epoch } = this.services;
    this.frames.position = hub.tail.end;
    hub.connections.add(this.frames);
    this.frames.control({
      kind: "welcome",
      epoch: epoch(),
      position: formatLsn(hub.tail.end),
      positionEveryMs: config.positionEveryMs,
    });
  }

  private expireAt(expiresAt: number | undefined): void {
    if (expiresAt === undefined) return;
    // setTimeout counts to 2^31 ms; a connection that old is looked at again.
    const leftMs = Math.min(expiresAt - Date.now(), 0x7fffffff);
    this.expiryTimer = setTimeout(
      () => {
        if (Date.now() < expiresAt) this.expireAt(expiresAt);
        else this.refuse(new WalcastError("token_expired", "the token has expired"), closeCodes.unauthenticated);
      },
      Math.max(leftMs, 0),
    );
  }

  private subscribe(id: number, request: ShapeRequest, changes: boolean): void {
    if (id <= this.lastId)
      throw new WalcastError(
        "malformed_message",
        `subscribe: expected an id above ${this.lastId}, found ${id}: ids are never used again`,
      );
    this.lastId = id;
    const { shapesPerConnection } = this.services.config.limits;
    if (this.lanes.size >= shapesPerConnection) {
      const error = new WalcastError(
        "too_many",
        `subscribe: expected at most ${shapesPerConnection} subscriptions on a connection`,
        { hint: "unsubscribe from some, or raise limits.shapesPerConnection" },
      );
      return this.frames.control({ kind: "error", subscription: id, error: error.toJSON() });
    }
    const lane = new Lane(this.services.hub, this.frames, {
      id,
      changes,
      resolve: () => this.resolve(request, changes),
      onFailed: () => this.lanes.delete(id),
    });
    this.lanes.set(id, lane);
    void lane.load();
  }

  /** Deny by default: a table that the config does not name does not exist, as far as anybody can tell. */
  private async resolve(request: ShapeRequest, changes: boolean): Promise<Shape> {
    const { config, tables } = this.services;
    const { schema, name } = parseTableName(request.table);
    const rule = ruleFor(config, { schema, name });
    if (!rule) throw unknownTable(schema, name);
    requireShort(request, config.limits.whereBytes);
    const allowed = await readRule(rule, this.auth);
    if (allowed === false)
      throw new WalcastError("forbidden", `sync ${schema}.${name}: the table's read rule refuses this client`);
    const table = await tables.get(schema, name, rule.replicaIdentity !== "keep");
    return resolveShape(request, table, allowed, rule.columns, changes);
  }

  private unsubscribe(id: number): void {
    this.lanes.get(id)?.end();
    this.lanes.delete(id);
    this.frames.control({ kind: "unsubscribed", id });
  }

  private async await({ id, position, xid }: Extract<ClientMessage, { kind: "await" }>): Promise<void> {
    this.awaiting++;
    try {
      await this.reach(position, xid);
      this.services.hub.sendPosition(this.frames);
      this.frames.control({ kind: "awaited", id, position: formatLsn(this.frames.position) });
    } catch (error) {
      const failure =
        error instanceof WalcastError
          ? error
          : new WalcastError("not_streaming", "await: Postgres cannot be asked just now", { cause: error });
      this.frames.control({ kind: "error", await: id, error: failure.toJSON() });
    } finally {
      this.awaiting--;
    }
  }

  private async reach(position: string | undefined, xid: string | undefined): Promise<void> {
    const { hub, xids } = this.services;
    if (this.awaiting > awaitsPerConnection)
      throw new WalcastError("too_many", `await: expected at most ${awaitsPerConnection} at a time`);
    if (xid !== undefined)
      await hub.reached(await xids.positionOf(BigInt(xid), () => this.state === "over"), this.frames);
    else if (position !== undefined) await hub.reached(parseLsn(position), this.frames);
    else throw new WalcastError("malformed_message", "await: expected a position or an xid, found neither");
  }
}

function requireShort({ where = "", params = [] }: ShapeRequest, bytesMax: number): void {
  for (const [name, text] of [
    ["where", where],
    ["params", JSON.stringify(params)],
  ] as const) {
    const bytes = Buffer.byteLength(text);
    if (bytes > bytesMax)
      throw new WalcastError("too_large", `subscribe: expected ${name} of at most ${bytesMax} bytes, found ${bytes}`);
  }
}
