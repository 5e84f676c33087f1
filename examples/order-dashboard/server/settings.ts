/**
 * What can be chosen when the example starts: flags, then environment variables, then defaults that need nothing.
 */
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

export interface Settings {
  readonly port: number;
  readonly host: string;
  readonly dataDir: string;
  /** The port the embedded Postgres tries first. */
  readonly postgresPort: number | undefined;
  /** An existing Postgres instead of the embedded one. */
  readonly databaseUrl: string | undefined;
}

export const usage = `Usage: npm start [-- OPTIONS]

  --port PORT            where the page is served   WALCAST_PORT, PORT        4437
  --host HOST            on which interface         WALCAST_HOST              127.0.0.1
  --data-dir DIR         where rows are kept        WALCAST_DATA_DIR          .walcast
  --postgres-port PORT   for the embedded Postgres  WALCAST_POSTGRES_PORT     5433, or the next free one
  --database-url URL     use that Postgres instead  WALCAST_DATABASE_URL
`;

const repository = fileURLToPath(new URL("../../..", import.meta.url));

/** Throws an Error whose message says which choice is wrong. Undefined: only help was asked for. */
export function readSettings(args: readonly string[], env: NodeJS.ProcessEnv): Settings | undefined {
  const text = { type: "string" } as const;
  const options = {
    port: text,
    host: text,
    "data-dir": text,
    "postgres-port": text,
    "database-url": text,
    help: { type: "boolean", short: "h" },
  } as const;
  const { values } = parseArgs({ args: [...args], options });
  if (values.help) return undefined;
  const postgresPort = values["postgres-port"] ?? env["WALCAST_POSTGRES_PORT"];
  return {
    port: portFrom(values.port ?? env["WALCAST_PORT"] ?? env["PORT"] ?? "4437"),
    host: values.host ?? env["WALCAST_HOST"] ?? "127.0.0.1",
    dataDir: resolve(repository, values["data-dir"] ?? env["WALCAST_DATA_DIR"] ?? ".walcast"),
    postgresPort: postgresPort === undefined ? undefined : portFrom(postgresPort),
    databaseUrl: values["database-url"] ?? env["WALCAST_DATABASE_URL"],
  };
}

function portFrom(text: string): number {
  const port = Number(text);
  if (!/^\d+$/.test(text) || port < 1 || port > 65_535)
    throw new Error(`A port is a number from 1 to 65535, not ${JSON.stringify(text)}.`);
  return port;
}
