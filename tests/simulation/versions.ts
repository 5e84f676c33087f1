/** Every version of every row, in a table of the oracle's own database, where predicates are evaluated. */
import type { Pool } from "pg";
import { firstLabels, laterLabels } from "./columns.ts";
import type { Row } from "./timeline.ts";

/** A moment no commit reaches. */
export const never = 2 ** 31 - 1;

export async function createVersions(pool: Pool): Promise<void> {
  const labels = [...firstLabels, ...laterLabels].map((label) => `'${label}'`).join(", ");
  await pool.query(`create type mood as enum (${labels})`);
  await pool.query(
    `create table version (id int primary key, era int not null, born int not null, died int not null default ${never}, hash int8 not null, fields text[] not null)`,
  );
  await pool.query("create index on version (era, born); create index on version (era, died)");
}

export interface Version {
  readonly id: number;
  readonly era: number;
  readonly born: number;
  readonly hash: number;
  readonly fields: Row;
}

export async function insertVersions(pool: Pool, versions: readonly Version[]): Promise<void> {
  await pool.query(
    `insert into version (id, era, born, hash, fields)
     select id, era, born, hash, fields::text[] from unnest($1::int[], $2::int[], $3::int[], $4::int8[], $5::text[]) as v (id, era, born, hash, fields)`,
    [
      versions.map(({ id }) => id),
      versions.map(({ era }) => era),
      versions.map(({ born }) => born),
      versions.map(({ hash }) => hash),
      versions.map(({ fields }) => arrayText(fields)),
    ],
  );
}

function arrayText(row: Row): string {
  const items = row.map((field) => (field === null ? "NULL" : `"${field.replaceAll(/["\\]/g, String.raw`\$&`)}"`));
  return `{${items.join(",")}}`;
}

export async function endVersions(
  pool: Pool,
  died: readonly { readonly id: number; readonly at: number }[],
): Promise<void> {
  await pool.query(
    "update version set died = d.at from unnest($1::int[], $2::int[]) as d (id, at) where version.id = d.id",
    [died.map(({ id }) => id), died.map(({ at }) => at)],
  );
}
