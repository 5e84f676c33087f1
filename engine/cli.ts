/**
 * The program `walcast`: reads the command line, runs one command, and says in one sentence what is wrong and how to mend
 * it where it cannot. Everything a command does is reachable from code as well.
 */
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import type { CommandLine } from "./commands/command.ts";
import { explain } from "./explain.ts";
import type { TextKey } from "./config.ts";
import { WalcastError } from "./errors.ts";

const help = `walcast: live, offline-capable Postgres data in every client

  walcast start     stream a database to its clients
  walcast dev       the same for development: a Postgres of its own where no URL is given,
                    every table readable, this machine only
  walcast doctor    check a database, one line each with the mend
  walcast migrate   make or update Walcast's own schema, and nothing else
  walcast types     write the interface Database for Kysely, of the tables that the config serves

  --config FILE        default walcast.config.ts, where there is one
  --database-url URL   postgresql://user:password@host:5432/database
  --host ADDRESS       default 127.0.0.1
  --port PORT          default 4437
  --data-dir DIR       default .walcast
  --publication NAME   default walcast
  --slot NAME          default walcast
  --log-level LEVEL    default info
  --drop-slot          doctor only: removes the replication slot, so that Postgres stops keeping WAL for it
  --out FILE           types only: where to write, instead of to the terminal

Flags win over WALCAST_DATABASE_URL, WALCAST_PORT and so on, which win over the config file.
`;

/** For what keeps the process alive although its command is over. */
const lingerMs = 500;

/** Each gives the code to exit with, and rejects with what `explain` puts into one sentence. Loaded when it is asked for: the engine is large. */
const commands = {
  start: async (line: CommandLine) => (await import("./commands/start.ts")).start(line),
  dev: async (line: CommandLine) => (await import("./commands/start.ts")).dev(line),
  doctor: async (line: CommandLine) => (await import("./commands/doctor.ts")).doctor(line),
  migrate: async (line: CommandLine) => (await import("./commands/migrate.ts")).migrateCommand(line),
  types: async (line: CommandLine) => (await import("./commands/types.ts")).types(line),
} as const;

const options = {
  config: { type: "string" },
  "database-url": { type: "string" },
  host: { type: "string" },
  port: { type: "string" },
  "data-dir": { type: "string" },
  publication: { type: "string" },
  slot: { type: "string" },
  "log-level": { type: "string" },
  "drop-slot": { type: "boolean" },
  out: { type: "string" },
  help: { type: "boolean", short: "h" },
  version: { type: "boolean", short: "v" },
} as const;

process.exitCode = await main(process.argv.slice(2)).catch(failed);
// What had to be closed in order has been; a start that a signal interrupted may still hold sockets. At once only where it has
// to be: while V8 compiles in the background, process.exit() may wait for a thread that waits for it, for ever.
setTimeout(() => process.exit(), lingerMs).unref();

async function main(argv: string[]): Promise<number> {
  const { values, positionals } = read(argv);
  if (values.version) return print(`${version()}\n`);
  if (values.help || positionals.length === 0) return print(help);
  const command = commandOf(positionals);
  if (values["drop-slot"] && command !== commands.doctor) throw usage("--drop-slot belongs to walcast doctor");
  if (values.out !== undefined && command !== commands.types) throw usage("--out belongs to walcast types");
  const {
    config,
    "data-dir": dataDir,
    "database-url": databaseUrl,
    "log-level": logLevel,
    host,
    port,
    publication,
    slot,
  } = values;
  const flags = given({ dataDir, databaseUrl, logLevel, host, port, publication, slot });
  return command({ configFile: config, flags, dropSlot: values["drop-slot"] ?? false, out: values.out });
}

function failed(error: unknown): number {
  process.stderr.write(`walcast: ${explain(error)}\n`);
  return 1;
}

function read(argv: string[]) {
  try {
    return parseArgs({ args: argv, options, allowPositionals: true });
  } catch (cause) {
    throw usage((cause as Error).message, cause);
  }
}

function commandOf([name, ...rest]: readonly string[]): (typeof commands)[keyof typeof commands] {
  if (rest.length > 0) throw usage(`expected one command, found ${[name, ...rest].join(" ")}`);
  if (name !== undefined && Object.hasOwn(commands, name)) return commands[name as keyof typeof commands];
  throw usage(`there is no command ${JSON.stringify(name)}: the commands are ${Object.keys(commands).join(", ")}`);
}

function given(flags: Readonly<Partial<Record<TextKey, string | undefined>>>): Partial<Record<TextKey, string>> {
  return Object.fromEntries(Object.entries(flags).filter(([, value]) => value !== undefined));
}

function usage(message: string, cause?: unknown): WalcastError {
  return new WalcastError("config_invalid", message, { cause, hint: "walcast --help lists what there is" });
}

function print(text: string): number {
  process.stdout.write(text);
  return 0;
}

/** One directory up in the source, two in what is published. */
function version(): string {
  for (const path of ["package.json", "../../package.json"]) {
    try {
      return (JSON.parse(readFileSync(new URL(path, import.meta.url), "utf8")) as { version: string }).version;
    } catch {
      // The other one, then.
    }
  }
  return "unknown";
}
