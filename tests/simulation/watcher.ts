/**
 * A client under observation: it comes with some shapes, changes its mind about them, gets other tokens, and everything it
 * ever shows or tells is kept for the judges.
 */
import type { PGlite } from "@electric-sql/pglite";
import { type Client, createClient } from "../../client-sdk/index.ts";
import { type Lsn, parseLsn } from "../../engine/protocol.ts";
import type { Random } from "../splice/random.ts";
import { emptyReplica } from "../support/replica.ts";
import { ChannelWatcher, type Stretch } from "./channel.ts";
import { type Access, type Asked, everything } from "./filter.ts";
import { decodedName } from "./layout.ts";
import { type Observation, observe, type ObservedShape } from "./observer.ts";
import { randomColumns, randomShape, type Taste } from "./predicates.ts";
import type { SimTable } from "./schema.ts";
import { Subscription, unique } from "./subscription.ts";
import { Tokens } from "./tokens.ts";
import type { Earlier, Refetch, Watching } from "./watching.ts";

export interface WatcherOptions {
  readonly name: string;
  readonly url: string;
  readonly random: Random;
  readonly replica?: PGlite | string;
  readonly taste?: Taste;
  /** By its first token. Default: all there is. */
  readonly access?: Access;
  /** By the tokens of who had the replica before, as far as what is there may be theirs. */
  readonly formerly?: readonly Access[];
  /** Called right after every state that is shown. */
  readonly tell?: () => void;
}

export class Watcher implements Watching {
  readonly name: string;
  readonly tokens: Tokens;
  client: Client;
  private readonly subscriptions = new Set<Subscription>();
  private channel: ChannelWatcher | undefined;
  private observations: Observation[] = [];
  private refetches: Refetch[] = [];
  private readonly stretches: Stretch[] = [];
  private readonly url: string;
  private readonly random: Random;
  private readonly taste: Taste;
  private readonly replica: PGlite | string;
  /** By the tokens since all was as one of them says. */
  private possible: readonly Access[];
  /** What the client had been answered when it asked for its last token. */
  private before = { connections: 0, authentications: 0 };
  private doing = "starts";
  private count = 0;

  static async open(options: WatcherOptions): Promise<Watcher> {
    return new Watcher(options, options.replica ?? (await emptyReplica()));
  }

  private constructor(options: WatcherOptions, replica: PGlite | string) {
    const { name, url, random, taste = "any", access = everything, formerly = [], tell = () => {} } = options;
    this.name = name;
    this.random = random;
    this.url = url;
    this.taste = taste;
    this.replica = replica;
    this.possible = [...formerly, access];
    this.tokens = new Tokens(access, random, (next) => this.handedOut(next));
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

  subscribe(table: SimTable, asked: Asked = randomShape(table, this.random, this.columnsOf(table))): void {
    this.add(asked, this.possible);
    this.note(`subscribes to ${table.name} ${asked.where ?? ""} ${JSON.stringify(asked.params ?? [])}`);
  }

  /** The replica has its rows from an earlier life, perhaps. */
  claim(asked: Asked, { completeAt, incompleteFrom }: Earlier): void {
    const subscription = this.add(asked, this.possible);
    subscription.formerlyFrom = incompleteFrom;
    if (completeAt !== undefined) subscription.expectNoRows(completeAt);
  }

  /** Another client takes over the replica, with the same shapes: those that were complete are so from the start. */
  async restart(): Promise<void> {
    this.note("starts again");
    const held = [...this.subscriptions].filter(({ leaving }) => !leaving);
    const complete = new Set(held.filter(({ handle }) => handle.status === "ready"));
    const { position } = this;
    await this.client.close();
    this.endChannel();
    this.client = this.createClient();
    this.subscriptions.clear();
    for (const one of held)
      this.claim(one.asked, complete.has(one) ? { completeAt: position } : { incompleteFrom: one.incompleteFrom });
  }

  /** Has another token from now on. */
  becomeNow(access: Access): void {
    this.note(`gets a token for ${access.join() || "nothing"}`);
    this.tokens.wanted = access;
    this.client.setToken(this.tokens.next);
  }

  /** Has another token from its next connection on. */
  becomeLater(access: Access): void {
    this.note(`will get a token for ${access.join() || "nothing"}`);
    this.tokens.wanted = access;
  }

  /** One shape comes or goes, and perhaps the channel is another one. Those that were refused go first. */
  async changeMind(tables: readonly SimTable[]): Promise<void> {
    if (!this.channel || this.channel.isRefused || this.random.chance(0.2)) await this.follow(this.random.pick(tables));
    const current = [...this.subscriptions].filter(({ leaving }) => !leaving);
    const refused = current.filter(({ handle }) => handle.status === "error");
    for (const subscription of refused) await this.unsubscribe(subscription);
    if (current.length > 3 || (current.length > 1 && this.random.chance(0.4)))
      await this.unsubscribe(this.random.pick(current.filter((one) => !refused.includes(one)).concat(current[0]!)));
    else this.subscribe(this.random.pick(tables));
  }

  /** The table's changes are told, by a channel instead of the one that there was. */
  async follow(table: SimTable): Promise<void> {
    await this.channel?.leave();
    this.endChannel();
    const asked = randomShape(table, this.random, randomColumns(table, this.random, this.taste));
    this.channel = new ChannelWatcher(this.name, this.client, asked, () => this.possible);
    this.note(`follows ${table.name}`);
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

  takeStretches(): Stretch[] {
    return [...this.stretches.splice(0), ...(this.channel?.takeStretches() ?? [])];
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

  /** Every shape is complete at or after this, and the channel tells what happens. */
  hasReached(position: Lsn): boolean {
    const areComplete = this.shapes.every(({ status }) => status === "ready" || status === "error");
    return this.position >= position && areComplete && this.client.status === "live" && this.isAnswered;
  }

  /** Regions whose rows are on the replica, whoever asked for them, and that its token does not name. Where all is as the token says. */
  async forbidden(): Promise<string[]> {
    const { access } = this.tokens;
    const tables = await this.client.query<{ name: string }>(
      `select format('%I.%I', table_schema, table_name) as name from information_schema.columns
       where column_name = 'region' and table_schema not in ('walcast', 'pg_catalog', 'information_schema')`,
    );
    const found = await Promise.all(
      tables.map(({ name }) => this.client.query<{ region: string }>(`select distinct region from ${name}`)),
    );
    return found.flat().flatMap(({ region }) => (access.includes(region) ? [] : region));
  }

  describe(): string {
    const { status, position, connections, breaches, resyncs, transactions, lastError, statusHistory } =
      this.client.inspect();
    const shapes = this.shapes.map(
      ({ table, where, params, columns, status }) =>
        `    ${status} ${table} ${where ?? ""} ${JSON.stringify(params ?? [])} ${columns?.join(", ") ?? ""}`,
    );
    const errors = [...this.subscriptions].flatMap(({ handle }) => handle.error?.message ?? []);
    const history = statusHistory.slice(-6).map(({ status, at }) => `${at.toISOString().slice(17, 23)} ${status}`);
    return [
      `${this.name} is ${status} at ${position}: ${connections} connections, ${breaches} breaches, ${resyncs} resyncs, ${transactions} transactions; ${this.doing}`,
      `    ${history.join(", ")}; last error: ${JSON.stringify(lastError)} ${errors.join("; ")}`,
      `    token for ${this.tokens.access.join() || "nothing"}`,
      ...shapes,
      ...(this.channel ? [this.channel.describe()] : []),
    ].join("\n");
  }

  private createClient(): Client {
    const client = createClient({
      url: this.url,
      token: this.tokens.next,
      replica: this.replica,
      backoff: { baseMs: 10, maxMs: 300 },
    });
    this.before = { connections: 0, authentications: 0 };
    return client;
  }

  private handedOut(access: Access): void {
    if (this.client) this.before = this.client.inspect();
    if (access !== this.possible.at(-1)) this.possible = [...this.possible, access];
    for (const subscription of this.subscriptions) subscription.mayShow(access);
  }

  /** The server has said of every shape what the last token may see, and that is what is shown. */
  private settleAccess(): void {
    if (this.possible.length === 1 || this.client.status !== "live" || !this.isAnswered) return;
    this.possible = [this.tokens.access];
    for (const subscription of this.subscriptions) subscription.access = this.possible;
  }

  private get isAnswered(): boolean {
    const { connections, authentications } = this.client.inspect();
    return connections > this.before.connections || authentications > this.before.authentications;
  }

  /** Shapes of one table have to have the same columns. */
  private columnsOf(table: SimTable): readonly string[] | undefined {
    const name = decodedName(table.name);
    const other = [...this.subscriptions].find(
      ({ asked, handle }) => asked.table === name && handle.status !== "error",
    );
    return other ? other.asked.columns : randomColumns(table, this.random, this.taste);
  }

  private add(asked: Asked, access: readonly Access[]): Subscription {
    const subscription = new Subscription(
      asked,
      this.client.sync(asked),
      access,
      () => this.position,
      (from) => this.refetched(asked, from),
      () => this.client.inspect().connections > this.before.connections,
    );
    this.subscriptions.add(subscription);
    return subscription;
  }

  private async unsubscribe(subscription: Subscription): Promise<void> {
    this.note(`leaves ${subscription.asked.table} ${subscription.asked.where ?? ""}`);
    subscription.leaving = true;
    await subscription.handle.unsubscribe();
    this.subscriptions.delete(subscription);
  }

  private endChannel(): void {
    this.channel?.end();
    this.stretches.push(...(this.channel?.takeStretches() ?? []));
    this.channel = undefined;
  }

  private get shapes(): ObservedShape[] {
    this.settleAccess();
    return Array.from(this.subscriptions, (subscription) => subscription.observed(this.hadOtherToken));
  }

  private refetched(asked: Asked, from: Lsn): void {
    this.refetches.push({
      ...asked,
      client: this.name,
      from,
      to: this.position,
      hadOtherToken: this.hadOtherToken,
    });
  }

  /** Since it was live. */
  private get hadOtherToken(): boolean {
    return unique(this.possible).length > 1;
  }
}
