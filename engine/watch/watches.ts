/**
 * Everybody who follows the current state of some shapes. Each is resolved by its own rights; those who may see the same rows of
 * the same shapes share one Watch. Where a table becomes another one they are resolved again, each by itself.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Auth } from "../authenticate.ts";
import { isPostgresAway } from "../changes/connection.ts";
import type { Tables } from "../changes/tables.ts";
import type { Config } from "../config.ts";
import { type ErrorCode, WalcastError } from "../errors.ts";
import type { ShapeRequest } from "../protocol.ts";
import type { Shape } from "../shapes/shape.ts";
import { type Asker, shapeFor, shapeForServer } from "../sockets/access.ts";
import type { Hub } from "../sockets/hub.ts";
import type { Vetting } from "../sockets/vetting.ts";
import { type Follower, Watch } from "./watch.ts";

export interface WatchServices {
  readonly config: Config;
  readonly hub: Hub;
  readonly tables: Tables;
  readonly vetting: Vetting;
}

/** Whose rights count: a client's, or the server's own. */
export type Rights = Auth | "server";

const retryMs = 50;
const retryMsMax = 5_000;

export class Watches {
  readonly services: WatchServices;
  /** By the shapes' identities. */
  private readonly shared = new Map<string, Watch>();
  /** About what their rows take in memory. */
  private bytes = 0;

  constructor(services: WatchServices) {
    this.services = services;
  }

  get size(): number {
    return this.shared.size;
  }

  /** Everybody begins again: history is another one. */
  restart(reason: WalcastError): void {
    for (const watch of [...this.shared.values()]) watch.end(reason);
  }

  /** What asks until the signal. */
  asker(signal: AbortSignal, address?: string): Asker {
    const asker = { address };
    signal.addEventListener("abort", () => this.services.vetting.forget(asker), { once: true });
    return asker;
  }

  /** As these rights have it. Throws where they have it not.*/
  readonly resolve = (request: ShapeRequest, rights: Rights, asker: Asker, changes = false): Promise<Shape> =>
    rights === "server"
      ? shapeForServer(this.services, request)
      : shapeFor(this.services, request, rights, changes, asker);

  /** Until the signal; throws where it cannot go on. `shapes`: the requests, resolved just now. */
  async follow(
    requests: readonly ShapeRequest[],
    rights: Rights,
    follower: Follower,
    signal: AbortSignal,
    asker: Asker,
    shapes?: readonly Shape[],
  ): Promise<void> {
    let seen: readonly Shape[] | undefined;
    let fresh = shapes;
    for (let attempt = 0; !signal.aborted; attempt++) {
      try {
        seen = fresh ?? (await this.resolveAll(requests, rights, seen, signal, asker));
        fresh = undefined;
        const told: Follower = {
          onState: (watch) => {
            attempt = 0;
            follower.onState(watch);
          },
          onCommit: (watch, commit) => follower.onCommit(watch, commit),
        };
        const reason = await this.share(requests, seen, rights, asker).follow(told, signal);
        if (reason && !passing.has(reason.code)) throw reason;
      } catch (error) {
        if (!isPostgresAway(error)) throw error;
      }
      if (!signal.aborted && attempt > 0) await delay(backoffMs(attempt), undefined, { ref: false });
    }
  }

  /** A commit can be streamed before anybody sees it, so a refusal of what was there before counts once all that was streamed is visible. */
  private async resolveAll(
    requests: readonly ShapeRequest[],
    rights: Rights,
    seen: readonly Shape[] | undefined,
    signal: AbortSignal,
    asker: Asker,
  ): Promise<readonly Shape[]> {
    const resolve = (): Promise<Shape[]> =>
      Promise.all(requests.map((request) => this.resolve(request, rights, asker)));
    try {
      return await resolve();
    } catch (error) {
      if (!seen || !(error instanceof WalcastError)) throw error;
      const { hub } = this.services;
      await hub.snapshots.seeing(hub.position, () => signal.aborted);
      for (const { table } of seen) hub.forget(table.oid);
      return resolve();
    }
  }

  private share(
    requests: readonly ShapeRequest[],
    shapes: readonly Shape[],
    rights: Rights,
    { address }: Asker,
  ): Watch {
    const key = shapes.map((shape) => shape.key).join(" ");
    const known = this.shared.get(key);
    if (known) return known;
    const leaving = new AbortController();
    const asker = this.asker(leaving.signal, address);
    const watch: Watch = new Watch({
      hub: this.services.hub,
      resolve: shapes.map((shape, i) => async () => {
        const now = await this.resolve(requests[i]!, rights, asker);
        if (now.key === shape.key) return now;
        throw new WalcastError("schema_changed", "watch: the table, or what may be read of it, changed");
      }),
      weigh: (bytes) => this.weigh(bytes),
      onOver: () => {
        leaving.abort();
        if (this.shared.get(key) === watch) this.shared.delete(key);
      },
    });
    this.shared.set(key, watch);
    return watch;
  }

  private weigh(bytes: number): WalcastError | undefined {
    const { watchBytes } = this.services.config.limits;
    this.bytes += bytes;
    if (this.bytes <= watchBytes) return undefined;
    return new WalcastError(
      "too_large",
      `watch: the rows that all streams hold would take more than ${watchBytes} bytes`,
      {
        hint: "ask for fewer rows with where or columns, sync them with the client, or raise limits.watchBytes",
      },
    );
  }
}

/** What is loaded anew. */
const passing: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  "schema_changed",
  "access_changed",
  "history_changed",
  "position_too_old",
  "snapshot_failed",
  "audit_mismatch",
  "connection_lost",
  "invariant",
]);

function backoffMs(attempt: number): number {
  return Math.min(retryMs * 2 ** attempt, retryMsMax) * Math.random();
}
