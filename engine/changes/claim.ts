/**
 * One engine per slot: an advisory lock, held on a session of its own for as long as the engine lives. Postgres lets only
 * one walsender use a slot, but between two connections anybody could slip in, and both would acknowledge. In a rolling
 * deploy the new engine waits here until the old one is gone, and the lock goes with its session, however that ends.
 * https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS
 */
import { setTimeout as delay } from "node:timers/promises";
import type pg from "pg";
import { WalcastError } from "../errors.ts";
import { mayPass, reasonOf } from "../explain.ts";
import { connect, queryConfig, unlessAborted } from "./connection.ts";
import { requireOwnSession } from "./pooler.ts";

const askAgainMs = 500;

export class Claim {
  private readonly databaseUrl: string;
  private readonly slot: string;
  private session: pg.Client | undefined;

  constructor(databaseUrl: string, slot: string) {
    this.databaseUrl = databaseUrl;
    this.slot = slot;
  }

  /** Takes the lock, or finds that it is still held. Throws `not_streaming` where another engine has it. */
  async hold(signal: AbortSignal): Promise<void> {
    if (this.session) return;
    const session = await connect(queryConfig(this.databaseUrl, "walcast claim"), signal);
    try {
      await unlessAborted(session, signal, async () => {
        await requireOwnSession(session, this.databaseUrl, signal);
        await lock(session, this.slot);
      });
    } catch (error) {
      await session.end();
      throw error;
    }
    session.once("end", () => {
      if (this.session === session) this.session = undefined;
    });
    this.session = session;
  }

  /** Another engine may have the slot, as in a rolling deploy: it will let go. What cannot pass by itself is thrown. */
  async whenFree(signal: AbortSignal, onWaiting: (reason: string) => void): Promise<void> {
    for (let said = ""; ;) {
      try {
        return await this.hold(signal);
      } catch (error) {
        if (!mayPass(error)) throw error;
        const reason = reasonOf(error);
        if (reason !== said) onWaiting((said = reason));
      }
      await delay(askAgainMs, undefined, { signal });
    }
  }

  async release(): Promise<void> {
    const { session } = this;
    this.session = undefined;
    await session?.end();
  }
}

async function lock(session: pg.Client, slot: string): Promise<void> {
  const { rows } = await session.query<{ locked: boolean }>(
    "select pg_try_advisory_lock(hashtext('walcast slot'), hashtext($1)) as locked",
    [slot],
  );
  if (!rows[0]!.locked) throw await heldByAnother(session, slot);
}

async function heldByAnother(session: pg.Client, slot: string): Promise<WalcastError> {
  const { rows } = await session.query<{ pid: number; since: string; address: string }>(
    `select a.pid, a.backend_start::text as since, coalesce(host(a.client_addr), 'this machine') as address
     from pg_locks l join pg_stat_activity a on a.pid = l.pid
     where l.locktype = 'advisory' and l.granted and l.database = (select oid from pg_database where datname = current_database())
       and l.classid::int8 = hashtext('walcast slot')::int8 & 4294967295 and l.objid::int8 = hashtext($1)::int8 & 4294967295`,
    [slot],
  );
  const holder = rows[0] ? ` (Postgres process ${rows[0].pid}, from ${rows[0].address} since ${rows[0].since})` : "";
  return new WalcastError("not_streaming", `another engine streams the slot ${slot}${holder}: waiting for it to end`, {
    hint: "stop it, or give this engine a slot of its own",
  });
}
