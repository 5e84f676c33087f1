/**
 * A channel under observation. From when it joins until it is begun anew, refused or left is one stretch, over any number of
 * connections: in it every change is told, once and in order.
 */
import type { ChangeEvent, Channel, Client, WalcastError } from "../../client-sdk/index.ts";
import { type Lsn, parseLsn } from "../../engine/protocol.ts";
import type { Access, Asked } from "./filter.ts";
import type { Event } from "./history.ts";
import { hashOf } from "./row-hash.ts";

export interface Told extends Omit<Event, "commit"> {
  readonly position: Lsn;
  readonly key: unknown;
}

export interface Stretch {
  readonly client: string;
  readonly asked: Asked;
  /** Under one of these. */
  readonly access: readonly Access[];
  /** Where it joined: what comes later is told. */
  readonly from: Lsn;
  readonly told: Told[];
  isOver: boolean;
}

type Row = Readonly<Record<string, unknown>>;

export class ChannelWatcher {
  private readonly name: string;
  private readonly asked: Asked;
  private readonly channel: Channel<Row>;
  private readonly stretches: Stretch[] = [];
  private current: Stretch | undefined;

  constructor(name: string, client: Client, asked: Asked, access: () => readonly Access[]) {
    this.name = name;
    this.asked = asked;
    const { table, ...options } = asked;
    this.channel = client.channel<Row>(table, options).on("*", (event) => this.note(event));
    this.channel.ready.catch(() => {});
    // So the client tells a channel that it begins, begins anew, and has failed.
    const told = this.channel as unknown as { joined(): void; loading(): void; failed(error: WalcastError): void };
    const { joined, loading, failed } = told;
    told.joined = () => {
      joined.call(told);
      this.begin(parseLsn(client.position), access());
    };
    told.loading = () => {
      loading.call(told);
      this.end();
    };
    told.failed = (error) => {
      failed.call(told, error);
      this.end();
    };
    this.channel.subscribe();
  }

  get isRefused(): boolean {
    return this.channel.status === "error";
  }

  takeStretches(): Stretch[] {
    return this.stretches.splice(0);
  }

  /** Nothing is told any more. */
  end(): void {
    if (this.current) this.current.isOver = true;
  }

  async leave(): Promise<void> {
    await this.channel.unsubscribe();
    this.end();
  }

  describe(): string {
    const { table, where, params } = this.asked;
    return `    channel ${this.channel.status} ${table} ${where ?? ""} ${JSON.stringify(params ?? [])} ${this.channel.error?.message ?? ""}`;
  }

  private begin(from: Lsn, access: readonly Access[]): void {
    this.end();
    this.current = { client: this.name, asked: this.asked, access: [...access], from, told: [], isOver: false };
    this.stretches.push(this.current);
  }

  private note({ type, row, old, position }: ChangeEvent<Row>): void {
    if (!this.current) throw new Error(`${this.name}: a channel told of a change before it had joined`);
    this.current.told.push({
      type,
      position: parseLsn(position),
      old: old && hashOf(textsOf(old)),
      row: row && hashOf(textsOf(row)),
      key: (row ?? old)?.id,
    });
  }
}

/** In the table's order, as Postgres wrote them. */
function textsOf(row: Row): (string | null)[] {
  return Object.values(row).map((value) => textOf(value));
}

function textOf(value: unknown): string | null {
  if (value === null) return null;
  if (typeof value === "boolean") return value ? "t" : "f";
  if (Array.isArray(value)) return `{${value.map((item) => textOf(item) ?? "NULL").join(",")}}`;
  if (value instanceof Date)
    return `${value
      .toISOString()
      .replace("T", " ")
      .replace(/\.?0*Z$/, "")}+00`;
  return `${value as string | number | bigint}`;
}
