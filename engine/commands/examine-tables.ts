/** `walcast doctor` about what is served: whether the publication sends all of it, and whether each table can be followed. */
import type { Client, Pool } from "pg";
import { type Config, ruleFor, type TableRule } from "../config.ts";
import { parseTableName } from "../shapes/name.ts";
import { fail, type Finding, ok, warn } from "./finding.ts";

/** One of the user's own may be made to send less than everything, and then replicas would lack it. */
export async function publication(client: Client, { publication: name }: Config): Promise<Finding[]> {
  const { rows } = await client.query<PublicationRow>(
    `select p.pubinsert and p.pubupdate and p.pubdelete and p.pubtruncate as all_operations, p.pubviaroot as via_root,
      (select count(*)::int from pg_publication_rel r where r.prpubid = p.oid and (to_jsonb(r) ->> 'prqual' is not null or to_jsonb(r) ->> 'prattrs' is not null)) as filtered
    from pg_publication p where p.pubname = $1`,
    [name],
  );
  const row = rows[0];
  if (!row) return [ok(`the publication ${name} will be made at the first start`)];
  const findings: Finding[] = [];
  if (!row.all_operations)
    findings.push(
      fail(
        `the publication ${name} does not publish every operation`,
        `run ALTER PUBLICATION ${name} SET (publish = 'insert, update, delete, truncate')`,
      ),
    );
  if (row.via_root)
    findings.push(
      fail(
        `the publication ${name} has publish_via_partition_root, which hides the TRUNCATE of a partition`,
        `run ALTER PUBLICATION ${name} SET (publish_via_partition_root = false)`,
      ),
    );
  if (row.filtered > 0)
    findings.push(
      fail(
        `the publication ${name} has row filters or column lists, which first rows would not have`,
        "let Walcast have a publication of its own: --publication",
      ),
    );
  return findings;
}

interface PublicationRow {
  readonly all_operations: boolean;
  readonly via_root: boolean;
  /** Tables with a row filter or a column list. */
  readonly filtered: number;
}

interface TableRow {
  readonly kind: string;
  readonly readable: boolean;
  readonly owned: boolean;
  readonly published: boolean;
  readonly keyed: boolean;
  readonly columns: readonly string[] | null;
  /** Of the primary key. */
  readonly key: readonly string[] | null;
  readonly identity: string;
  /** Row-level security would filter what this role reads. */
  readonly secured: boolean;
  /** It has row-level security, whoever it applies to. */
  readonly policies: boolean;
}

type Queryable = Pick<Client | Pool, "query">;

export async function servedTables(client: Queryable, config: Config): Promise<Finding[]> {
  if (config.tables === "all") return [];
  const findings: Finding[] = [];
  for (const name of config.tables.keys()) findings.push(...(await oneTable(client, config, name)));
  return findings;
}

async function oneTable(client: Queryable, config: Config, name: string): Promise<Finding[]> {
  const row = await tableRow(client, config, name);
  if (!row) return [fail(`there is no table ${name}`, "create it, or take it out of the config")];
  const rule = ruleFor(config, parseTableName(name));
  const found = [
    ...tableFindings(row, name, rule?.replicaIdentity !== "keep"),
    ...policyFindings(row, name, rule),
    ...columnFindings(row, name, rule),
  ];
  return found.length > 0 ? found : [ok(`${name} can be served`)];
}

async function tableRow(client: Queryable, { publication }: Config, name: string): Promise<TableRow | undefined> {
  const table = parseTableName(name);
  const sql = `select c.relkind::text as kind, has_table_privilege(c.oid, 'SELECT') as readable, pg_has_role(c.relowner, 'USAGE') as owned,
      exists (select from pg_publication_rel r join pg_publication p on p.oid = r.prpubid where p.pubname = $3 and r.prrelid = c.oid) as published,
      exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary) as keyed,
      (select json_agg(a.attname) from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped) as columns,
      (select json_agg(a.attname) from pg_index i join pg_attribute a on a.attrelid = c.oid and a.attnum = any (i.indkey)
        where i.indrelid = c.oid and i.indisprimary) as key,
      c.relreplident::text as identity,
      c.relrowsecurity and row_security_active(c.oid) as secured, c.relrowsecurity as policies
    from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relname = $2`;
  const { rows } = await client.query<TableRow>(sql, [table.schema, table.name, publication]);
  return rows[0];
}

/** What a list leaves out nobody can subscribe to, or without. */
function columnFindings({ columns, key }: TableRow, name: string, rule: TableRule | undefined): Finding[] {
  if (!rule?.columns) return [];
  const listed = new Set(rule.columns);
  const absent = [...listed.difference(new Set(columns))].map((column) =>
    fail(
      `${name} has no column ${JSON.stringify(column)}, which its list of columns names`,
      "correct `columns` in the config",
    ),
  );
  const missing = [...new Set(key).difference(listed)].map((column) =>
    fail(
      `${name} cannot be served without ${JSON.stringify(column)}, which is part of its key`,
      "add it to `columns` in the config",
    ),
  );
  return [...absent, ...missing];
}

/** The stream knows no policies, so whoever wrote some must not think that they protect what is served. */
function policyFindings({ policies, secured }: TableRow, name: string, rule: TableRule | undefined): Finding[] {
  if (!policies || secured || rule?.read !== true) return [];
  return [
    warn(
      `${name} has row-level security, which says nothing about what clients read, and its rule lets everybody read everything`,
      "say in `read` who may read which rows",
    ),
  ];
}

function tableFindings(row: TableRow, name: string, full: boolean): Finding[] {
  if (row.kind !== "r" && row.kind !== "p")
    return [fail(`${name} is not a table`, "only tables have changes in the WAL: serve the tables behind it")];
  const findings: Finding[] = [];
  if (!row.readable) findings.push(fail(`${name} may not be read`, `run GRANT SELECT ON ${name} TO the role`));
  if (!row.keyed && row.identity !== "i")
    findings.push(fail(`${name} has no primary key`, `run ALTER TABLE ${name} ADD PRIMARY KEY (…)`));
  if (row.secured)
    findings.push(
      fail(
        `${name} has row-level security that applies to this role: it would filter first rows and not changes`,
        "give the role BYPASSRLS",
      ),
    );
  if (!row.published && !row.owned)
    findings.push(
      fail(
        `${name} is not in the publication and is somebody else's`,
        "let its owner run ALTER PUBLICATION … ADD TABLE, or make the role its owner",
      ),
    );
  if (row.identity !== "f" && full && !row.owned)
    findings.push(
      warn(
        `${name} does not have REPLICA IDENTITY FULL: only predicates over its key can be served`,
        `let its owner run ALTER TABLE ${name} REPLICA IDENTITY FULL`,
      ),
    );
  return findings;
}
