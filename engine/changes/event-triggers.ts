/**
 * The event triggers that note schema changes, in the transaction of the DDL that makes them. What they call is made by
 * the migrations; they themselves need rights that not every engine's role has, so they are made beside them, where
 * permitted, and brought up to date at every start.
 */
import type pg from "pg";
import type { Logger } from "pino";

interface EventTrigger {
  readonly event: string;
  /** In the order of the alphabet. */
  readonly tags?: readonly string[];
  readonly calls: string;
}

const eventTriggers: Readonly<Record<string, EventTrigger>> = {
  walcast_schema_change: {
    event: "ddl_command_end",
    tags: ["ALTER TABLE", "CREATE FOREIGN TABLE", "CREATE TABLE"],
    calls: "note_schema_change",
  },
  walcast_type_change: {
    event: "ddl_command_end",
    tags: ["ALTER COLLATION", "ALTER DOMAIN", "ALTER EXTENSION", "ALTER SCHEMA", "ALTER TYPE"],
    calls: "note_type_change",
  },
  walcast_readiness: {
    event: "ddl_command_end",
    tags: ["ALTER PUBLICATION", "CREATE PUBLICATION", "DROP OWNED", "GRANT", "REVOKE"],
    calls: "note_readiness",
  },
  walcast_rewrite: { event: "table_rewrite", calls: "note_rewrite" },
  walcast_drop: { event: "sql_drop", calls: "note_drop" },
};

const insufficientPrivilege = "42501";

/** False where they are not permitted. */
export async function ensureEventTriggers(client: pg.Client, log: Logger): Promise<boolean> {
  const { rows } = await client.query<{ name: string; tags: string[] | null }>(
    "select evtname as name, evttags as tags from pg_event_trigger where evtenabled = 'A'",
  );
  const present = new Map(rows.map(({ name, tags }) => [name, tags]));
  try {
    for (const [name, trigger] of Object.entries(eventTriggers))
      if (!isSame(present.get(name), trigger.tags)) await createEventTrigger(client, name, trigger);
    return true;
  } catch (error) {
    if ((error as pg.DatabaseError).code !== insufficientPrivilege) throw error;
    log.warn(
      "event triggers are not permitted to this role: schema changes are looked for in the catalog every few seconds",
    );
    return false;
  }
}

function isSame(found: string[] | null | undefined, wanted: readonly string[] = []): boolean {
  return found !== undefined && JSON.stringify(found?.toSorted() ?? []) === JSON.stringify(wanted);
}

// One of that name may be there from an earlier version; in one transaction, so that no DDL goes unnoticed between the two.
// ALWAYS: also for what runs under session_replication_role = replica, as some restores and migrations do.
async function createEventTrigger(
  client: pg.Client,
  name: string,
  { event, tags, calls }: EventTrigger,
): Promise<void> {
  const when = tags ? ` when tag in (${tags.map((tag) => `'${tag}'`).join(", ")})` : "";
  try {
    await client.query(
      `begin; drop event trigger if exists ${name};
       create event trigger ${name} on ${event}${when} execute function walcast.${calls}();
       alter event trigger ${name} enable always; commit`,
    );
  } catch (error) {
    await client.query("rollback");
    throw error;
  }
}
