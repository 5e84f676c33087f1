/**
 * What Postgres is asked every second: what a snapshot sees now, how much WAL it has written and keeps for us, and whether
 * the publication is still the one that is streamed.
 */
import type pg from "pg";
import type { Logger } from "pino";
import { type Lsn, parseLsn } from "../protocol.ts";
import { parsePgSnapshot, type PgSnapshot } from "./pg-snapshot.ts";

export interface Measured {
  readonly snapshot: PgSnapshot;
  /** Where the WAL ends. */
  readonly written: Lsn;
  readonly slot: SlotVitals | undefined;
  /** 0 where there is none. */
  readonly publicationOid: number;
}

export interface SlotVitals {
  /** WAL that Postgres keeps because this slot has not confirmed it. */
  readonly retainedBytes: number;
  /** "reserved", "extended", "unreserved" or "lost". */
  readonly walStatus: string;
  /** Above this Postgres gives the slot up; undefined where it would rather fill the disk. */
  readonly keepBytes: number | undefined;
}

export interface VitalsOptions {
  readonly control: pg.Pool;
  readonly slot: string;
  readonly publication: string;
  /** What Postgres may keep, where max_slot_wal_keep_size does not say. */
  readonly retainedWalBytes: number;
  /** Everything before it has come by. */
  readonly streamed: () => Lsn;
  readonly log: Logger;
}

export class Vitals {
  lagBytes = 0;
  slot: SlotVitals | undefined;
  /** What needs a person soon, with the mend. */
  warning: string | undefined;
  private readonly options: VitalsOptions;
  private readonly lag = new LagSeconds();

  constructor(options: VitalsOptions) {
    this.options = options;
  }

  get lagSeconds(): number {
    return this.lag.at(this.options.streamed(), performance.now());
  }

  async walEnd(): Promise<Lsn> {
    const { rows } = await this.options.control.query<{ end: string }>(
      "select pg_current_wal_insert_lsn()::text as end",
    );
    return parseLsn(rows[0]!.end);
  }

  async measure(): Promise<Measured> {
    const { control, slot, publication, streamed } = this.options;
    const measured = await ask(control, slot, publication);
    const { written } = measured;
    this.lagBytes = written > streamed() ? Number(written - streamed()) : 0;
    this.lag.note(written, streamed(), performance.now());
    this.slot = measured.slot;
    this.warn(measured.slot && retentionWarning(measured.slot, this.options.retainedWalBytes));
    return measured;
  }

  /** Said once when it begins, not every second. */
  private warn(warning: string | undefined): void {
    if (warning !== undefined && this.warning === undefined)
      this.options.log.warn({ slot: this.options.slot }, warning);
    this.warning = warning;
  }
}

/** At half of what may be kept there is still time to do something. */
function retentionWarning({ retainedBytes, keepBytes, walStatus }: SlotVitals, budget: number): string | undefined {
  const mostBytes = keepBytes ?? budget;
  if (walStatus !== "unreserved" && walStatus !== "lost" && retainedBytes <= mostBytes / 2) return undefined;
  const kept = `Postgres keeps ${megabytes(retainedBytes)} of WAL for the slot (${walStatus})`;
  return keepBytes === undefined
    ? `${kept}, more than half of limits.retainedWalBytes: see why the engine lags, and set max_slot_wal_keep_size before the disk is full`
    : `${kept}, and gives it up above ${megabytes(keepBytes)}: see why the engine lags, or raise max_slot_wal_keep_size`;
}

function megabytes(bytes: number): string {
  return `${Math.round(bytes / 1e6)} MB`;
}

interface Row {
  readonly snapshot: string;
  readonly written: string;
  readonly publication: string | null;
  readonly retained: number | null;
  readonly status: string | null;
  readonly keep: number;
}

async function ask(control: pg.Pool, slot: string, publication: string): Promise<Measured> {
  const { rows } = await control.query<Row>(
    `select pg_current_snapshot()::text as snapshot, pg_current_wal_lsn()::text as written,
      (select oid from pg_publication where pubname = $2)::text as publication,
      pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn)::float8 as retained, s.wal_status as status,
      (select setting::float8 * 1048576 from pg_settings where name = 'max_slot_wal_keep_size') as keep
    from (values (1)) as one left join pg_replication_slots s on s.slot_name = $1`,
    [slot, publication],
  );
  const row = rows[0]!;
  return {
    snapshot: parsePgSnapshot(row.snapshot),
    written: parseLsn(row.written),
    slot: slotVitals(row),
    publicationOid: Number(row.publication ?? 0),
  };
}

function slotVitals({ retained, status, keep }: Row): SlotVitals | undefined {
  if (status === null) return undefined;
  return { retainedBytes: retained ?? 0, walStatus: status, keepBytes: keep < 0 ? undefined : keep };
}

/** An hour's worth of seconds: whoever is further behind than that is an hour behind. */
const waitingMax = 3_600;

/** How long ago Postgres had written what has only now come by, or has not yet: all by our clock. */
export class LagSeconds {
  private waiting: { readonly written: Lsn; readonly atMs: number }[] = [];

  note(written: Lsn, streamed: Lsn, nowMs: number): void {
    this.waiting = this.waiting.filter((one) => one.written > streamed);
    if (written > streamed && this.waiting.length < waitingMax) this.waiting.push({ written, atMs: nowMs });
  }

  at(streamed: Lsn, nowMs: number): number {
    const first = this.waiting.find((one) => one.written > streamed);
    return first ? (nowMs - first.atMs) / 1_000 : 0;
  }
}
