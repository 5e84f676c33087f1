/**
 * `walcast types`: writes the interface `Database` for Kysely, as clients read it: the tables that the config serves, with
 * the columns that it serves; all tables where it names none. Read out of the database by the optional peer kysely-codegen.
 */
import { writeFile } from "node:fs/promises";
import { Kysely, PostgresDialect } from "kysely";
import type { DatabaseMetadata, TableMetadata } from "kysely-codegen";
import { openPool } from "../changes/connection.ts";
import { type Config, resolveConfig, ruleFor } from "../config.ts";
import { WalcastError } from "../errors.ts";
import { qualifiedName } from "../shapes/name.ts";
import { type CommandLine, readConfig } from "./command.ts";

export async function types(line: CommandLine): Promise<number> {
  const given = await readConfig(line);
  const config = resolveConfig(given);
  const text = await typesOf(given.tables === undefined ? { ...config, tables: "all" } : config);
  if (line.out === undefined) process.stdout.write(text);
  else await write(line.out, text);
  return 0;
}

/** How a client gives values of these types, where that is not how `pg` does it. */
const clientTypes = {
  int8: "number | bigint",
  bytea: "Uint8Array",
  interval: "string",
  point: "string",
  circle: "string",
};

async function typesOf(config: Pick<Config, "databaseUrl" | "tables">): Promise<string> {
  const codegen = await importCodegen();
  const pool = openPool(config.databaseUrl, "walcast types", connections);
  try {
    const text = await codegen.generate({
      db: new Kysely<unknown>({ dialect: new PostgresDialect({ pool }) }),
      dialect: new codegen.PostgresDialect(),
      outFile: null,
      postprocess: async ({ metadata }) => served(metadata, config),
      typeMapping: clientTypes,
    });
    return text.replace(/^export interface DB \{$/m, "export interface Database {");
  } finally {
    await pool.close();
  }
}

// What is asked, is asked at the same time.
const connections = 5;

async function importCodegen(): Promise<typeof import("kysely-codegen")> {
  try {
    return await import("kysely-codegen");
  } catch (cause) {
    // It needs typescript, and does not say so to npm.
    const missing = /'(?:kysely-codegen|typescript)'/.exec((cause as Error).message)?.[0] ?? "kysely-codegen";
    throw new WalcastError("config_invalid", `write types: ${missing} is not installed`, {
      cause,
      hint: "run npm install --save-dev kysely-codegen typescript",
    });
  }
}

/** Views are no tables, and Walcast's own are nobody's. */
function served(metadata: DatabaseMetadata, config: Pick<Config, "tables">): DatabaseMetadata {
  const tables = metadata.tables.filter(({ isView, schema }) => !isView && schema !== "walcast");
  metadata.tables = tables.filter((table) => ruleFor(config, nameOf(table)) !== undefined);
  for (const table of metadata.tables) restrict(table, ruleFor(config, nameOf(table))?.columns);
  requireAll(metadata.tables, config);
  return metadata;
}

function restrict(table: TableMetadata, columns: readonly string[] | undefined): void {
  if (columns) table.columns = table.columns.filter(({ name }) => columns.includes(name));
}

function requireAll(tables: readonly TableMetadata[], config: Pick<Config, "tables">): void {
  if (config.tables === "all") return;
  const found = new Set(tables.map((table) => qualifiedName(nameOf(table).schema, table.name)));
  const missing = config.tables.keys().find((name) => !found.has(name));
  if (missing === undefined) return;
  throw new WalcastError("config_invalid", `write types: there is no table ${missing}`, {
    hint: "create it, or take it out of the config",
  });
}

function nameOf({ schema = "public", name }: TableMetadata): { schema: string; name: string } {
  return { schema, name };
}

async function write(file: string, text: string): Promise<void> {
  await writeFile(file, text).catch((cause: Error) => {
    throw new WalcastError("config_invalid", `write types: ${cause.message}`, {
      cause,
      hint: "give --out another file",
    });
  });
}
