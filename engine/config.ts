/**
 * What the engine is told: by `walcast.config.ts`, by the environment, by flags. Everything is checked here once; what
 * comes out of `resolveConfig` is complete and cannot be wrong, and the rest of the engine trusts it.
 */
import { resolve } from "node:path";
import { WalcastError } from "./errors.ts";
import { type Auth, type Authenticator, type AuthFunction, anonymous, authenticator } from "./authenticate.ts";
import { integer, invalid, isRecord, requireKnown } from "./given.ts";
import { type Limits, type LogLimits, limitsOf, logOf } from "./limits.ts";
import { parseTableName, qualifiedName, type TableName } from "./shapes/name.ts";
import { isSql, type Sql } from "./sql.ts";

export type { Auth, Authenticator } from "./authenticate.ts";
export type { Limits, LogLimits } from "./limits.ts";
export { type Sql, sql } from "./sql.ts";

export interface WalcastConfig {
  /** `postgresql://user:password@host:5432/database`, of a role with REPLICATION. Not a pooler's. */
  databaseUrl?: string | undefined;
  /** Interface to listen on. Default "127.0.0.1". */
  host?: string | undefined;
  /** Default 4437; 0 takes any free one. */
  port?: number | undefined;
  /** Where the engine keeps its files. Default ".walcast" in the working directory. */
  dataDir?: string | undefined;
  /**
   * The tables that clients may read, named as in SQL, each with its rule. What is not named here is not served.
   * "all" serves every table to everybody: for development, and refused unless `host` is a loopback address.
   */
  tables?: Readonly<Record<string, TableRule>> | "all" | undefined;
  /**
   * The topics that clients may listen to, each with its rules. What is not named here is not there. "all" lets everybody do
   * everything with every topic: for development, and refused unless `host` is a loopback address.
   */
  topics?: Readonly<Record<string, TopicRule>> | "all" | undefined;
  /**
   * Turns a client's token into claims: `jwt({ … })`, or a function of yours. What it throws, and null, refuses the client.
   * Default: everybody is nobody, with no claims and no scopes.
   */
  auth?: Authenticator | AuthFunction | undefined;
  log?: {
    /** How long a client may be away and still resume where it was. Default 24. */
    retentionHours?: number;
    /** What the log's files may take on disk; the oldest go first. Default 4e9. */
    maxBytes?: number;
    /** Memory for the newest transactions, which clients and loading shapes catch up from. Default 64 MiB. */
    tailBytes?: number;
    /** Size of one file of the log; whole files are deleted. Default 64 MiB. */
    segmentBytes?: number;
  };
  limits?: Partial<Limits> | undefined;
  /**
   * Pages that may connect from a browser, as `https://shop.example`; `*` is any. Default: any where tables are named, as a
   * token is nothing that a browser adds by itself; pages of this machine where `tables` is "all".
   */
  origins?: readonly string[] | undefined;
  /** The cookie that holds the token of a client whose hello has none. Needs `origins`, as a browser sends it for every page. */
  tokenCookie?: string | undefined;
  /** The header in which a proxy in front says whom it talks to, such as `x-forwarded-for`; its last entry counts. Default: none. */
  addressHeader?: string | undefined;
  /** The publication in Postgres; made where it is missing. Default "walcast". */
  publication?: string | undefined;
  /** The replication slot in Postgres; made where it is missing. Default "walcast". */
  slot?: string | undefined;
  /** Files to serve to GET at `/`. Default: none. */
  staticDir?: string | undefined;
  /** Answers HTTP requests that are neither the engine's nor a static file's. */
  app?: (request: Request) => Response | Promise<Response>;
  /** Default "info". */
  logLevel?: LogLevel | undefined;
  /** How often an idle connection is told the position it has reached; clients take much longer silence for a dead socket. Default 5,000 ms. */
  positionEveryMs?: number | undefined;
  /** How often a shape's rows are counted and summed up on both sides, one shape after another; 0 never. Default 60,000 ms. */
  auditEveryMs?: number | undefined;
  /** How often a stream of Server-Sent Events has a comment, so that nobody takes silence for a dead connection. Default 15,000 ms. */
  heartbeatMs?: number | undefined;
}

export interface TableRule {
  /** Which rows: all of them, those a predicate keeps, or what a function of the client's token says. */
  readonly read: true | Sql | ((auth: Auth) => boolean | Sql | Promise<boolean | Sql>);
  /** Plain column names, the key's among them. Default: every column. */
  readonly columns?: readonly string[];
  /**
   * "full" (the default) sets REPLICA IDENTITY FULL, so that every predicate can be followed; "keep" leaves the table as
   * it is. https://www.postgresql.org/docs/current/logical-replication-publication.html
   */
  readonly replicaIdentity?: "full" | "keep";
}

export interface TopicRule {
  /**
   * Who may listen. Of those, whoever has one of its scopes gets a message that names some; one that names none is for all of
   * them. Default false.
   */
  readonly read?: boolean | TopicRuleFunction;
  /** Who may publish from a client, or over HTTP without the scope `walcast:publish`. SQL is Postgres' affair. Default false. */
  readonly publish?: boolean | TopicRuleFunction;
}

export type TopicRuleFunction = (auth: Auth) => boolean | Promise<boolean>;

export type LogLevel = (typeof logLevels)[number];

/** A WalcastConfig with nothing left open. */
export interface Config {
  readonly databaseUrl: string;
  readonly host: string;
  readonly port: number;
  readonly dataDir: string;
  /** By qualified, quoted name: `"public"."orders"`. Ask with `ruleFor`. */
  readonly tables: ReadonlyMap<string, TableRule> | "all";
  /** Ask with `topicRuleFor`. */
  readonly topics: ReadonlyMap<string, TopicRule> | "all";
  readonly auth: Authenticator;
  readonly origins: readonly string[] | undefined;
  readonly tokenCookie: string | undefined;
  readonly addressHeader: string | undefined;
  readonly log: LogLimits;
  readonly limits: Limits;
  readonly publication: string;
  readonly slot: string;
  readonly staticDir: string | undefined;
  readonly app: ((request: Request) => Response | Promise<Response>) | undefined;
  readonly logLevel: LogLevel;
  readonly positionEveryMs: number;
  readonly auditEveryMs: number;
  readonly heartbeatMs: number;
}

/** What `walcast.config.ts` exports by default. Does nothing but say what type it is. */
export function defineConfig(config: WalcastConfig): WalcastConfig {
  return config;
}

export interface ConfigSources {
  /** Read for WALCAST_DATABASE_URL and the like. Default: nothing is read. */
  readonly env?: NodeJS.ProcessEnv | undefined;
  /** What the command line said. Wins over the environment, which wins over the file. */
  readonly flags?: Readonly<Partial<Record<TextKey, string>>> | undefined;
}

/** Throws `config_invalid`, which names the key, what was expected and what was found. */
export function resolveConfig(input: WalcastConfig, sources: ConfigSources = {}): Config {
  const given = withSources(input, sources);
  if ("mutators" in given)
    throw new WalcastError("config_invalid", "read the config: mutators are not there yet; clients only read", {
      hint: "take the key out, and write to Postgres",
    });
  requireKnown(given, knownKeys, "the config");
  const host = text(given, "host", "127.0.0.1");
  return {
    databaseUrl: databaseUrlOf(given.databaseUrl),
    host,
    port: integer(given.port, "port", 4437, 0, 65_535),
    dataDir: resolve(text(given, "dataDir", ".walcast")),
    tables: tablesOf(given.tables, host),
    topics: topicsOf(given.topics, host),
    auth: authOf(given.auth),
    ...visitorsOf(given),
    log: logOf(given.log),
    limits: limitsOf(given.limits),
    publication: text(given, "publication", defaultPublication),
    slot: slotOf(text(given, "slot", "walcast")),
    staticDir: given.staticDir === undefined ? undefined : resolve(text(given, "staticDir", "")),
    app: functionOf(given.app),
    logLevel: logLevelOf(given.logLevel),
    positionEveryMs: integer(given.positionEveryMs, "positionEveryMs", 5_000, 10, 3_600_000),
    auditEveryMs: integer(given.auditEveryMs, "auditEveryMs", 60_000, 0, 86_400_000),
    heartbeatMs: integer(given.heartbeatMs, "heartbeatMs", 15_000, 10, 3_600_000),
  };
}

/** The file's config with what the environment and the flags put in its place. Values are checked by `resolveConfig`. */
export function withSources(input: WalcastConfig, { env = {}, flags = {} }: ConfigSources): WalcastConfig {
  if (typeof input !== "object" || input === null) throw invalid("the config", "an object", input);
  const merged: Record<string, unknown> = { ...input };
  for (const key of textKeys) {
    const value = flags[key] ?? env[environmentName(key)];
    if (value !== undefined && value !== "") merged[key] = numberKeys.has(key) ? Number(value) : value;
  }
  return merged;
}

/** The rule for a table, or undefined where it is not served. */
export function ruleFor(config: Pick<Config, "tables">, { schema, name }: TableName): TableRule | undefined {
  return config.tables === "all" ? everything : config.tables.get(qualifiedName(schema, name));
}

/** The rules of a topic, or undefined where it is not there. */
export function topicRuleFor({ topics }: Pick<Config, "topics">, topic: string): TopicRule | undefined {
  return topics === "all" ? { read: true, publish: true } : topics.get(topic);
}

export const defaultPublication = "walcast";

const everything: TableRule = { read: true };

export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127\.\d+\.\d+\.\d+$/.test(host);
}

// ── Keys ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Those that a flag or an environment variable can say. */
const textKeys = [
  "databaseUrl",
  "host",
  "port",
  "dataDir",
  "publication",
  "slot",
  "staticDir",
  "logLevel",
  "positionEveryMs",
  "auditEveryMs",
  "heartbeatMs",
] as const;
export type TextKey = (typeof textKeys)[number];
const numberKeys: ReadonlySet<string> = new Set<TextKey>(["port", "positionEveryMs", "auditEveryMs", "heartbeatMs"]);
const knownKeys = [
  ...textKeys,
  "tables",
  "topics",
  "auth",
  "origins",
  "tokenCookie",
  "addressHeader",
  "log",
  "limits",
  "app",
];
const ruleKeys = ["read", "columns", "replicaIdentity"];
const logLevels = ["fatal", "error", "warn", "info", "debug", "trace", "silent"] as const;

/** WALCAST_DATABASE_URL for databaseUrl. */
function environmentName(key: string): string {
  return `WALCAST_${key.replace(/[A-Z]/g, "_$&").toUpperCase()}`;
}

// ── Values ───────────────────────────────────────────────────────────────────────────────────────────────────────────

function databaseUrlOf(value: unknown): string {
  if (value === undefined) {
    const mend = "give --database-url or WALCAST_DATABASE_URL, or run `walcast dev` for a Postgres of its own";
    throw new WalcastError("config_invalid", `read the config: databaseUrl is missing; ${mend}`);
  }
  const protocol = typeof value === "string" && URL.canParse(value) ? new URL(value).protocol : "";
  if (protocol === "postgres:" || protocol === "postgresql:") return value as string;
  // Its text is not repeated: it may hold a password.
  throw new WalcastError(
    "config_invalid",
    "read the config: databaseUrl: expected a form like postgresql://user@host:5432/database",
  );
}

function tablesOf(value: unknown, host: string): Config["tables"] {
  if (value === "all") return allTablesOn(host);
  if (value === undefined) return new Map();
  if (!isRecord(value)) throw invalid("tables", "an object of rules by table name", value);
  const rules = new Map<string, TableRule>();
  for (const [name, rule] of Object.entries(value)) {
    const table = parseTableName(name);
    const key = qualifiedName(table.schema, table.name);
    if (rules.has(key)) throw new WalcastError("config_invalid", `read the config: tables names ${key} twice`);
    rules.set(key, ruleOf(rule, `tables[${JSON.stringify(name)}]`));
  }
  return rules;
}

function topicsOf(value: unknown = {}, host: string): Config["topics"] {
  if (value === "all") return allTablesOn(host, "topic");
  if (!isRecord(value)) throw invalid("topics", "an object of rules by topic", value);
  for (const [name, rule] of Object.entries(value)) {
    const where = `topics[${JSON.stringify(name)}]`;
    if (!isRecord(rule)) throw invalid(where, "rules such as { read: true }", rule);
    requireKnown(rule, ["read", "publish"], where);
    for (const what of ["read", "publish"])
      if (!["undefined", "boolean", "function"].includes(typeof rule[what]))
        throw invalid(`${where}.${what}`, "true, false or a function", rule[what]);
  }
  return new Map(Object.entries(value as Record<string, TopicRule>));
}

function allTablesOn(host: string, what: "table" | "topic" = "table"): "all" {
  if (isLoopback(host)) return "all";
  throw new WalcastError(
    "config_invalid",
    `read the config: every ${what} readable and host ${host}: expected a loopback address; name each with its rules to serve others`,
  );
}

function ruleOf(value: unknown, where: string): TableRule {
  if (!isRecord(value)) throw invalid(where, "a rule such as { read: true }", value);
  requireKnown(value, ruleKeys, where);
  const { read, columns, replicaIdentity } = value;
  if (read !== true && typeof read !== "function" && !isSql(read))
    throw invalid(`${where}.read`, "true, sql`…` or a function", read);
  if (replicaIdentity !== undefined && replicaIdentity !== "full" && replicaIdentity !== "keep")
    throw invalid(`${where}.replicaIdentity`, '"full" or "keep"', replicaIdentity);
  if (columns !== undefined && !areColumns(columns))
    throw invalid(`${where}.columns`, "a list of different column names", columns);
  return value as unknown as TableRule;
}

function areColumns(value: unknown): boolean {
  if (!Array.isArray(value) || value.length === 0) return false;
  return value.every((column) => typeof column === "string" && column !== "") && new Set(value).size === value.length;
}

function authOf(value: unknown): Authenticator {
  if (value === undefined) return anonymous;
  if (typeof value === "function") return authenticator(value as AuthFunction);
  if (isRecord(value) && typeof value.verify === "function") return authenticator(value as unknown as Authenticator);
  // It is not repeated: it may hold the secret.
  throw invalid("auth", "a function, or an object with verify(), such as jwt({ secret })", undefined);
}

function visitorsOf(given: WalcastConfig): Pick<Config, "origins" | "tokenCookie" | "addressHeader"> {
  const origins = originsOf(given.origins);
  const tokenCookie = token("tokenCookie", given.tokenCookie);
  if (tokenCookie !== undefined && (!origins || origins.includes("*")))
    throw new WalcastError(
      "config_invalid",
      "read the config: tokenCookie: expected a list of origins beside it, as a browser sends cookies whichever page connects",
    );
  return { origins, tokenCookie, addressHeader: token("addressHeader", given.addressHeader)?.toLowerCase() };
}

function originsOf(value: unknown): readonly string[] | undefined {
  if (value === undefined) return undefined;
  const isOrigin = (one: unknown): boolean =>
    one === "*" || (typeof one === "string" && URL.canParse(one) && new URL(one).origin === one);
  if (Array.isArray(value) && value.every(isOrigin)) return value as string[];
  throw invalid("origins", 'a list of origins such as "https://shop.example"', value);
}

/** https://www.rfc-editor.org/rfc/rfc9110#name-tokens */
function token(key: string, value: unknown): string | undefined {
  if (value === undefined) return undefined;
  if (typeof value === "string" && /^[\w!#$%&'*+.^`|~-]+$/.test(value)) return value;
  throw invalid(key, "a name without spaces", value);
}

/** https://www.postgresql.org/docs/current/warm-standby.html#STREAMING-REPLICATION-SLOTS */
function slotOf(slot: string): string {
  if (/^[a-z0-9_]{1,63}$/.test(slot)) return slot;
  throw invalid("slot", "at most 63 of a-z, 0-9 and _, as Postgres allows", slot);
}

function functionOf(value: unknown): Config["app"] {
  if (value === undefined || typeof value === "function") return value as Config["app"];
  throw invalid("app", "a function from Request to Response", value);
}

function logLevelOf(value: unknown = "info"): LogLevel {
  if (logLevels.includes(value as LogLevel)) return value as LogLevel;
  throw invalid("logLevel", logLevels.join(", "), value);
}

function text(given: WalcastConfig, key: TextKey, byDefault: string): string {
  const value: unknown = given[key] ?? byDefault;
  if (typeof value === "string" && value !== "" && !value.includes("\0")) return value;
  throw invalid(key, "a text that is not empty", value);
}
