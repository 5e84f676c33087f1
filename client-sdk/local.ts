/**
 * What of a client needs a Postgres: the replica, and whoever reads it. Its code is loaded together with PGlite's when somebody
 * wants rows, and not before.
 */
import type { Lsn, Seed } from "../engine/protocol.ts";
import { Changed } from "./changed.ts";
import type { Claim } from "./claim.ts";
import { Database, type DatabaseHooks } from "./database.ts";
import { type LiveHooks, LiveQueries } from "./live.ts";
import { Replica } from "./replica.ts";
import { seeded } from "./seed.ts";
import type { ShapeHandle } from "./shape.ts";
import { Sizes } from "./sizes.ts";

export interface LocalOptions {
  readonly place: Claim;
  readonly seed: Seed | undefined;
  /** Nothing is shown as long as it is not known whose it is. */
  readonly owner: () => Promise<string | undefined>;
  readonly shapes: ReadonlySet<ShapeHandle>;
}

export interface LocalHooks extends Omit<DatabaseHooks, "wrote">, LiveHooks {
  /** What an earlier process left, before a seed is put into it; `damage`: why it could not be used. */
  found(replica: Replica, damage: string | undefined): void;
  /** It may be shown, and written to. */
  restore(replica: Replica): void;
}

export class Local {
  readonly database: Database;
  readonly liveQueries: LiveQueries;
  readonly sizes: Sizes;
  readonly opened: Promise<Replica>;
  private readonly shapes: ReadonlySet<ShapeHandle>;
  private readonly hooks: LocalHooks;
  private current: Replica | undefined;

  constructor(options: LocalOptions, hooks: LocalHooks) {
    this.shapes = options.shapes;
    this.hooks = hooks;
    this.database = new Database(options.place, {
      troubled: (error) => hooks.troubled(error),
      crashed: (error) => hooks.crashed(error),
      wrote: () => this.wroteOwn(),
    });
    this.sizes = new Sizes(this.database);
    this.opened = this.open(options);
    this.opened.catch(() => {});
    this.liveQueries = new LiveQueries(this.database, this.opened, hooks);
  }

  get position(): Lsn | undefined {
    return this.current?.position;
  }

  /** Once it is open. */
  get replica(): Replica {
    return this.current!;
  }

  /** Somebody wants to know what the shapes hold. */
  look(transactions: number): void {
    if (this.current) this.sizes.refresh(this.current, [...this.shapes], transactions);
  }

  private async open({ owner, seed }: LocalOptions): Promise<Replica> {
    const [whose] = await Promise.all([owner(), this.database.open()]);
    const replica = await this.database.exclusive(() => {
      const left = new Replica(this.database, whose);
      this.hooks.found(left, this.database.instance.damage ?? left.emptied);
      return seeded(left, seed, whose);
    });
    this.current = replica;
    replica.foresee = (changed) => this.liveQueries.foresee(changed);
    await this.database.instance.committed();
    this.database.admit();
    this.hooks.restore(replica);
    return replica;
  }

  /** The application, into tables that no shape has. Into which is not known. */
  private wroteOwn(): () => void {
    const synced = new Set(Array.from(this.shapes, ({ tableName }) => tableName));
    const read = this.liveQueries.list().flatMap(({ tables }) => tables);
    return this.liveQueries.applied(new Changed(read.filter((table) => !synced.has(table))));
  }
}
