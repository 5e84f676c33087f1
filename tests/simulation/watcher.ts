/** A client under observation: it comes with some shapes, changes its mind about them, and everything it ever shows is kept for the judge. */
import type { PGlite } from "@electric-sql/pglite";
import { type Client, createClient, type Shape } from "../../client-sdk/index.ts";
import { type Lsn, parseLsn } from "../../engine/protocol.ts";
import type { Random } from "../splice/random.ts";
import { emptyReplica } from "../support/replica.ts";
import { decodedName, type SimTable } from "./schema.ts";
import { type Filter } from "./history.ts";
import { type Observation, observe, type ObservedShape } from "./observer.ts";
import { randomFilter } from "./predicates.ts";

/** That rows which were complete had to come again. */
export interface Refetch extends Filter {
  readonly client: string;
  readonly table: string;
  /** Where the client was when it began, and when the rows were complete again. */
  readonly from: Lsn;
  readonly to: Lsn;
}

/** What the simulation asks of a client, wherever it runs. */
export interface Watching {
  readonly name: string;
  readonly tables: ReadonlySet<string>;
  takeObservations(): Observation[];
  takeRefetches(): Refetch[];
  hasReached(position: Lsn): boolean;
  describe(): string;
  close(): Promise<void>;
}

interface Subscription extends Filter {
  readonly table: string;
  readonly handle: Shape;
  leaving: boolean;
}

export class Watcher implements Watching {
  readonly name: string;
  client: Client;
  readonly subscriptions = new Set<Subscription>();
  private observations: Observation[] = [];
  private refetches: Refetch[] = [];
  private readonly url: string;
  private readonly random: Random;
  private readonly replica: PGlite | string;
  private doing = "starts";
  private count = 0;

  /** `tell`: called right after every state that is shown. */
  static async open(
    name: string,
    url: string,
    random: Random,
    replica?: string,
    tell: () => void = () => {},
  ): Promise<Watcher> {
    return new Watcher(name, url, random, replica ?? (await emptyReplica()), tell);
  }

  private constructor(name: string, url: string, random: Random, replica: PGlite | string, tell: () => void) {
    this.name = name;
    this.random = random;
    this.url = url;
    this.replica = replica;
    this.client = this.createClient();
    observe(
      this.client.pglite,
      () => this.shapes,
      (position, tables) => {
        this.observations.push({ client: name, number: ++this.count, position, tables, doing: this.doing });
        tell();
      },
    );
  }

  subscribe(table: SimTable, filter: Filter = randomFilter(table, this.random)): void {
    this.add({ ...filter, table: decodedName(table.name) }, this.client.sync({ table: table.name, ...filter }));
    this.note(`subscribes to ${table.name} ${filter.where ?? ""} ${JSON.stringify(filter.params ?? [])}`);
  }

  /** `completeAt`: where the replica is that has its rows from an earlier life. They need not come again. */
  claim(table: string, { where, params }: Filter, completeAt: Lsn | undefined): void {
    const filter = { ...(where === undefined ? {} : { where }), ...(params === undefined ? {} : { params }) };
    const shape = { ...filter, table: decodedName(table) };
    const { handle } = this.add(shape, this.client.sync({ table, ...filter }));
    if (completeAt === undefined) return;
    // The description that precedes rows says that they come.
    const stop = handle.on("progress", () => {
      this.refetches.push({ ...shape, client: this.name, from: completeAt, to: this.position });
      stop();
    });
    handle.on("status", (status) => {
      if (status === "ready") stop();
    });
  }

  /** Another client takes over the replica, with the same shapes: those that were complete are so from the start. */
  async restart(): Promise<void> {
    this.note("starts again");
    const held = [...this.subscriptions].filter(({ leaving }) => !leaving);
    const complete = held.filter(({ handle }) => handle.status === "ready");
    await this.client.close();
    this.client = this.createClient();
    this.subscriptions.clear();
    for (const { handle, ...shape } of held)
      this.claim(
        handle.request.table,
        shape,
        complete.some((one) => one.handle === handle) ? this.position : undefined,
      );
  }

  async unsubscribe(subscription: Subscription): Promise<void> {
    this.note(`leaves ${subscription.table} ${subscription.where ?? ""}`);
    subscription.leaving = true;
    await subscription.handle.unsubscribe();
    this.subscriptions.delete(subscription);
  }

  /** One shape comes or goes. Those that were refused go first. */
  async changeMind(tables: readonly SimTable[]): Promise<void> {
    const current = [...this.subscriptions].filter(({ leaving }) => !leaving);
    const refused = current.filter(({ handle }) => handle.status === "error");
    for (const subscription of refused) await this.unsubscribe(subscription);
    if (current.length > 3 || (current.length > 1 && this.random.chance(0.4)))
      await this.unsubscribe(this.random.pick(current.filter((one) => !refused.includes(one)).concat(current[0]!)));
    else this.subscribe(this.random.pick(tables));
  }

  async close(): Promise<void> {
    await this.client.close();
    if (typeof this.replica === "object") await this.replica.close();
  }

  takeObservations(): Observation[] {
    return this.observations.splice(0);
  }

  takeRefetches(): Refetch[] {
    return this.refetches.splice(0);
  }

  note(doing: string): void {
    this.doing = doing;
  }

  get tables(): Set<string> {
    return new Set(this.shapes.map(({ table }) => table));
  }

  get position(): Lsn {
    return parseLsn(this.client.position);
  }

  /** Every shape is complete at or after this. */
  hasReached(position: Lsn): boolean {
    return this.position >= position && this.shapes.every(({ status }) => status === "ready" || status === "error");
  }

  describe(): string {
    const { status, position, connections, breaches, resyncs, transactions, lastError, statusHistory } =
      this.client.inspect();
    const shapes = this.shapes.map(
      ({ table, where, params, status }) => `    ${status} ${table} ${where ?? ""} ${JSON.stringify(params ?? [])}`,
    );
    const errors = [...this.subscriptions].flatMap(({ handle }) => handle.error?.message ?? []);
    const history = statusHistory.slice(-6).map(({ status, at }) => `${at.toISOString().slice(17, 23)} ${status}`);
    return [
      `${this.name} is ${status} at ${position}: ${connections} connections, ${breaches} breaches, ${resyncs} resyncs, ${transactions} transactions; ${this.doing}`,
      `    ${history.join(", ")}; last error: ${JSON.stringify(lastError)} ${errors.join("; ")}`,
      ...shapes,
    ].join("\n");
  }

  private createClient(): Client {
    return createClient({ url: this.url, replica: this.replica, backoff: { baseMs: 10, maxMs: 300 } });
  }

  private add(shape: Filter & { readonly table: string }, handle: Shape): Subscription {
    const subscription = { ...shape, handle, leaving: false };
    handle.ready.catch(() => {});
    this.subscriptions.add(subscription);
    this.countRefetches(subscription);
    return subscription;
  }

  private get shapes(): ObservedShape[] {
    return Array.from(this.subscriptions, ({ handle, leaving, ...shape }) => ({
      ...shape,
      // Its rows leave in a turn of their own, or have been left as they were.
      status: leaving ? ("error" as const) : handle.status,
    }));
  }

  private countRefetches({ handle, leaving: _, ...shape }: Subscription): void {
    let from: Lsn | undefined;
    handle.on("status", (status) => {
      if (status === "resyncing") from ??= this.position;
      if (status !== "ready" || from === undefined) return;
      this.refetches.push({ ...shape, client: this.name, from, to: this.position });
      from = undefined;
    });
  }
}
