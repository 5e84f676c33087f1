/** A client under observation: it comes with some shapes, changes its mind about them, and everything it ever shows is kept for the judge. */
import type { PGlite } from "@electric-sql/pglite";
import { type Client, createClient, type Shape } from "../../client-sdk/index.ts";
import { type Lsn, parseLsn } from "../../engine/protocol.ts";
import type { Random } from "../splice/random.ts";
import { decodedName, type SimTable } from "./schema.ts";
import { type Filter } from "./history.ts";
import { type Observation, observe, type ObservedShape } from "./observer.ts";
import { randomFilter } from "./predicates.ts";
import { openReplica } from "./replica.ts";

/** That rows which were complete had to come again. */
export interface Refetch extends Filter {
  readonly client: string;
  readonly table: string;
  /** Where the client was when it began, and when the rows were complete again. */
  readonly from: Lsn;
  readonly to: Lsn;
}

interface Subscription extends Filter {
  readonly table: string;
  readonly handle: Shape;
  leaving: boolean;
}

export class Watcher {
  readonly name: string;
  readonly client: Client;
  readonly subscriptions = new Set<Subscription>();
  observations: Observation[] = [];
  refetches: Refetch[] = [];
  private readonly random: Random;
  private readonly replica: PGlite;
  private doing = "starts";
  private count = 0;

  static async open(name: string, url: string, random: Random): Promise<Watcher> {
    return new Watcher(name, url, random, await openReplica());
  }

  private constructor(name: string, url: string, random: Random, replica: PGlite) {
    this.name = name;
    this.random = random;
    this.replica = replica;
    this.client = createClient({ url, replica, backoff: { baseMs: 10, maxMs: 300 } });
    observe(
      replica,
      () => this.shapes,
      (position, tables) => {
        this.observations.push({ client: name, number: ++this.count, position, tables, doing: this.doing });
      },
    );
  }

  subscribe(table: SimTable, filter: Filter = randomFilter(table, this.random)): void {
    const handle = this.client.sync({ table: table.name, ...filter });
    const subscription: Subscription = { ...filter, table: decodedName(table.name), handle, leaving: false };
    handle.ready.catch(() => {});
    this.subscriptions.add(subscription);
    this.countRefetches(subscription);
    this.note(`subscribes to ${table.name} ${filter.where ?? ""} ${JSON.stringify(filter.params ?? [])}`);
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
    await this.replica.close();
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
