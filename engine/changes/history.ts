/**
 * Asks a server, over a replication connection as the stream's will be, which history it has and where the slot is. The
 * timeline comes from IDENTIFY_SYSTEM: what pg_control_checkpoint() tells is that of the last checkpoint, which for some
 * seconds after a failover is the old one.
 * https://www.postgresql.org/docs/current/protocol-replication.html
 */
import { createHash } from "node:crypto";
import pg from "pg";
import { defaultPublication } from "../config.ts";
import { WalcastError } from "../errors.ts";
import { type Lsn, parseLsn } from "../protocol.ts";
import { replicationConfig, withConnection } from "./connection.ts";
import { type Ancestor, type Lineage, parseTimelineHistory } from "./epoch.ts";
import { readSlot, type SlotState } from "./slot.ts";

export interface History extends Lineage {
  /** Where the WAL on the server's disk ends. */
  readonly walEnd: Lsn;
  /** Undefined where there is none. */
  readonly slot: SlotState | undefined;
  /** 0 where there is none. */
  readonly publicationOid: number;
  /** A recent 64-bit xid. */
  readonly recentXid: bigint;
  /** 0: never times out. */
  readonly walSenderTimeoutMs: number;
}

export interface HistoryOptions {
  readonly databaseUrl: string;
  readonly slot: string;
  readonly publication: string;
}

export function readHistory(
  { databaseUrl, slot, publication }: HistoryOptions,
  signal?: AbortSignal,
): Promise<History> {
  const config = { ...replicationConfig(databaseUrl, "walcast history"), replication: "database" };
  return withConnection(config, signal, async (client) => {
    const { systemid, timeline, xlogpos } = await identify(client);
    const facts = await readFacts(client, publication);
    return {
      epoch: { system: systemid, database: facts.database, timeline, branch: branchOf(publication) },
      ancestors: timeline > 1 ? await readAncestors(client, timeline) : [],
      walEnd: parseLsn(xlogpos),
      slot: await readSlot(client, slot),
      publicationOid: Number(facts.publication ?? 0),
      recentXid: BigInt(facts.xid),
      walSenderTimeoutMs: Number(facts.timeout),
    };
  });
}

/** A table joins each publication at a moment of its own, so what one has streamed another may lack. The usual one is no branch. */
function branchOf(publication: string): string {
  return publication === defaultPublication
    ? ""
    : createHash("sha256").update(publication).digest("hex").slice(0, branchLength);
}

const branchLength = 16;

interface Identity {
  readonly systemid: string;
  readonly timeline: number;
  readonly xlogpos: string;
}

async function identify(client: pg.Client): Promise<Identity> {
  // An int4 in older versions, an int8 in newer ones, which pg gives as text.
  const { rows } = await client.query<Omit<Identity, "timeline"> & { timeline: number | string }>("IDENTIFY_SYSTEM");
  const row = rows[0]!;
  return { ...row, timeline: Number(row.timeline) };
}

interface Facts {
  readonly database: string;
  readonly publication: string | null;
  readonly xid: string;
  readonly timeout: string;
}

async function readFacts(client: pg.Client, publication: string): Promise<Facts> {
  const { rows } = await client.query<Facts & { standby: boolean }>(
    `select (select oid from pg_database where datname = current_database())::text as database,
      (select oid from pg_publication where pubname = ${pg.escapeLiteral(publication)})::text as publication,
      pg_snapshot_xmax(pg_current_snapshot())::text as xid, pg_is_in_recovery() as standby,
      (select setting from pg_settings where name = 'wal_sender_timeout') as timeout`,
  );
  const { standby, ...facts } = rows[0]!;
  if (standby)
    throw new WalcastError("database_unsuitable", "start replication: this server is a standby", {
      hint: "connect to the primary",
    });
  return facts;
}

async function readAncestors(client: pg.Client, timeline: number): Promise<Ancestor[]> {
  const { rows } = await client.query<{ content: Buffer | string }>(`TIMELINE_HISTORY ${timeline}`);
  return parseTimelineHistory(String(rows[0]!.content));
}
