/**
 * What a client asked for, as it may have it: deny by default. A table that the config does not name does not exist, as far
 * as anybody can tell, and a rule that cannot be applied allows nothing.
 */
import { type Auth, type Config, ruleFor, type TableRule } from "../config.ts";
import { unknownTable } from "../changes/catalog.ts";
import { isPostgresAway } from "../changes/connection.ts";
import type { Table } from "../changes/table.ts";
import type { Tables } from "../changes/tables.ts";
import { type ShapeRequest, WalcastError } from "../protocol.ts";
import { parseTableName, type TableName } from "../shapes/name.ts";
import { isLonger } from "../shapes/long.ts";
import { readRule, resolveShape, ruleFailed, type Shape, takesLong } from "../shapes/shape.ts";
import type { Sql } from "../sql.ts";
import type { Rate } from "./bounds.ts";
import { userOf } from "./credentials.ts";
import { refusing } from "./refusing.ts";
import type { Vetting } from "./vetting.ts";

export interface AccessServices {
  readonly config: Pick<Config, "tables" | "limits">;
  readonly tables: Tables;
  readonly vetting: Vetting;
}

/** What asks: a subscription, a request. Where it ends, `vetting.forget` has its conditions wait no more. */
export interface Asker {
  /** Where it is known: a program that asks for somebody else has none. */
  readonly address: string | undefined;
}

export async function shapeFor(
  { config, tables, vetting }: AccessServices,
  request: ShapeRequest,
  auth: Auth,
  changes: boolean,
  asker: Asker,
): Promise<Shape> {
  const name = parseTableName(request.table);
  const rule = ruleFor(config, name);
  if (!rule) throw unknownTable(name.schema, name.name);
  requireShort(request, config.limits.whereBytes);
  const allowed = await allowedBy(rule, name, auth);
  const find = (): Promise<Table> => tables.get(name.schema, name.name, rule.replicaIdentity !== "keep");
  const isLong = (table: Table): boolean => takesLong(request, table, allowed, rule.columns, changes);
  const read = async (table: Table): Promise<Shape> => {
    const asking = { client: clientOf(auth, asker), asker };
    const isStranger = asker.address !== undefined;
    const resolve = (vetted?: string): Shape => resolveShape(request, table, allowed, rule.columns, changes, vetted);
    return isLong(table)
      ? resolve(await vetting.vet(asking, request, table, rule.columns))
      : vetting.vetShort(asking, request, table, rule.columns, () => (isStranger ? refusing(resolve) : resolve()));
  };
  const known = tables.known(name.schema, name.name);
  const table = known ?? (await find());
  // It is as it was found when nobody has waited since.
  return known || isLong(table) ? readAsFound(table, read, find, vetting.doubts) : read(table);
}

/**
 * Reads before it asks Postgres which table has the name: of what is refused, most never asks, as somebody who is refused a hundred times
 * a second would be felt by all who wait for Postgres.
 */
async function readAsFound(
  known: Table,
  read: (table: Table) => Promise<Shape>,
  find: () => Promise<Table>,
  doubts: Rate,
): Promise<Shape> {
  for (let table = known; ;) {
    const reading = read(table);
    const isRefused = await reading.then(
      () => false,
      (error: unknown) => error instanceof WalcastError,
    );
    if (isRefused && !doubts.take(performance.now())) return reading;
    const now = await find();
    if (now.oid === table.oid && now.version === table.version) return reading;
    table = now;
  }
}

/** Of whom no more is known than an address is told apart by that, and the program by what it asks. */
function clientOf(auth: Auth, asker: Asker): unknown {
  const user = userOf(auth);
  if (user !== undefined) return `user ${user}`;
  return asker.address === undefined ? asker : `address ${asker.address}`;
}

/** With the server's own rights: all of any table. One that the config does not name keeps its replica identity. */
export async function shapeForServer({ config, tables }: AccessServices, request: ShapeRequest): Promise<Shape> {
  const name = parseTableName(request.table);
  const rule = ruleFor(config, name);
  const table = await tables.get(name.schema, name.name, rule !== undefined && rule.replicaIdentity !== "keep");
  return resolveShape(request, table, true, undefined, false);
}

export async function allowedBy(rule: TableRule, { schema, name }: TableName, auth: Auth): Promise<Sql | true> {
  const allowed = await readRule(rule, auth).catch((error: unknown) => {
    // A rule may ask a database, which may be back soon.
    throw error instanceof WalcastError || isPostgresAway(error) ? error : ruleFailed(`${schema}.${name}`, error);
  });
  if (allowed !== false) return allowed;
  throw new WalcastError("forbidden", `sync ${schema}.${name}: the table's read rule refuses this client`);
}

function requireShort({ where = "", params = [] }: ShapeRequest, bytesMax: number): void {
  // Writing a message's worth of small values as JSON takes milliseconds.
  if (isLonger(params, bytesMax))
    throw new WalcastError("too_large", `subscribe: expected params of at most ${bytesMax} bytes, found more`);
  for (const [name, text] of [
    ["where", where],
    ["params", JSON.stringify(params)],
  ] as const) {
    const bytes = Buffer.byteLength(text);
    if (bytes > bytesMax)
      throw new WalcastError("too_large", `subscribe: expected ${name} of at most ${bytesMax} bytes, found ${bytes}`);
  }
}
