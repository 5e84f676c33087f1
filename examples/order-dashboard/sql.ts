/**
 * `npm run sql -- "UPDATE …"`: what psql is for, on machines without one. Runs against the Postgres that `npm start` has
 * running, which leaves its address in the data directory.
 */
import { parseArgs } from "node:util";
import pg from "pg";
import { readRecord } from "../../engine/embedded/record.ts";
import { readSettings } from "./server/settings.ts";

const usage = 'Usage: npm run sql -- "SELECT …" [--data-dir DIR] [--database-url URL]';

try {
  const text = { type: "string" } as const;
  const { values, positionals } = parseArgs({
    options: { "data-dir": text, "database-url": text },
    allowPositionals: true,
  });
  if (positionals.length === 0) throw new Error(usage);
  const flags = Object.entries(values).map(([name, value]) => `--${name}=${value}`);
  await run(positionals.join(" "), await databaseUrl(flags));
} catch (error) {
  console.error(describe(error as Error));
  process.exitCode = 1;
}

/** The same choices as `npm start` has, in the same order. */
async function databaseUrl(flags: readonly string[]): Promise<string> {
  const settings = readSettings(flags, process.env)!;
  if (settings.databaseUrl !== undefined) return settings.databaseUrl;
  const record = await readRecord(settings.dataDir);
  if (!record) throw new Error(`Nothing runs in ${settings.dataDir}: run \`npm start\` in another terminal first.`);
  return record.url;
}

async function run(statements: string, connectionString: string): Promise<void> {
  // Values as Postgres writes them, not as JavaScript would.
  const client = new pg.Client({
    connectionString,
    application_name: "npm run sql",
    types: { getTypeParser: () => (value: unknown) => value },
  });
  client.on("error", () => undefined); // The query under way rejects with the same.
  await client.connect();
  try {
    const results: pg.QueryArrayResult<Cell[]> | pg.QueryArrayResult<Cell[]>[] = await client.query({
      text: statements,
      rowMode: "array",
    });
    for (const result of [results].flat()) console.log(format(result));
  } finally {
    await client.end();
  }
}

type Cell = string | null;

function format({ command, rowCount, fields, rows }: pg.QueryArrayResult<Cell[]>): string {
  if (fields.length > 0)
    return `${table(
      fields.map(({ name }) => name),
      rows,
    )}\n(${rows.length} ${rows.length === 1 ? "row" : "rows"})`;
  return rowCount === null ? command : `${command} ${rowCount}`;
}

function table(names: readonly string[], rows: readonly (readonly Cell[])[]): string {
  const lines = [names, ...rows.map((row) => row.map((cell) => cell ?? "∅"))];
  const widths = names.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)));
  const [head, ...body] = lines.map((line) =>
    line
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join("  ")
      .trimEnd(),
  );
  return [head, widths.map((width) => "─".repeat(width)).join("  "), ...body].join("\n");
}

function describe(error: Error & { code?: string; hint?: string; position?: string }): string {
  if (error.code === "ECONNREFUSED")
    return "Nothing answers there any more: run `npm start` in another terminal first.";
  const at = error.position === undefined ? "" : ` (at character ${error.position})`;
  return `${error.message}${at}${error.hint === undefined ? "" : `\n${error.hint}`}`;
}
