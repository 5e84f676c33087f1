/**
 * The types that local tables need, as the server described them. Each is made in a local transaction of its own, before
 * the one that needs it: a label cannot be used in the transaction that adds it, and nobody minds a type that is ahead of
 * its tables. https://www.postgresql.org/docs/current/sql-altertype.html
 */
import type { TypeDescription } from "../engine/protocol.ts";
import type { Database } from "./database.ts";
import * as store from "./store.ts";
import * as sql from "./tables.ts";

export class LocalTypes {
  private readonly database: Database;
  private readonly types: Map<string, TypeDescription>;

  constructor(database: Database, stored: ReadonlyMap<string, TypeDescription>) {
    this.database = database;
    this.types = new Map(stored);
  }

  /** Whether one was made anew: columns of the old one, whose name it has taken, call theirs something else from now on. */
  ensure(types: readonly TypeDescription[]): boolean {
    const opaque = sql.opaqueTypesOf(types);
    const remade = new Set<string>();
    for (const type of types) if (type.kind !== "opaque") this.ensureOne(type, opaque, remade);
    return remade.size > 0;
  }

  /** What stands on a type that was made anew still means the old one, and is made anew as well. */
  private ensureOne(type: TypeDescription, opaque: sql.OpaqueTypes, remade: Set<string>): void {
    const name = sql.qualified(type);
    const known = this.types.get(name);
    const standsOnRemade = sql.typesUnder(type).some((one) => remade.has(one));
    if (known && !standsOnRemade && JSON.stringify(known) === JSON.stringify(type)) return;
    const added = known && !standsOnRemade ? sql.addedLabels(known, type) : undefined;
    const scripts = added ?? create(type, opaque, known);
    if (!added) remade.add(name);
    this.database.transaction(() => {
      for (const script of scripts) this.database.script(script);
      this.database.runAll([store.saveType(name, type)]);
    });
    this.types.set(name, type);
    this.database.readTypes();
  }
}

function create(type: TypeDescription, opaque: sql.OpaqueTypes, known: TypeDescription | undefined): string[] {
  // The old type goes on serving the old rows until their table is replaced.
  const aside = known ? sql.setTypeAside(known, () => `walcast_old_${crypto.randomUUID()}`) : [];
  return [
    `CREATE SCHEMA IF NOT EXISTS ${sql.quoteIdentifier(type.schema)}`,
    ...aside,
    sql.createType(type, opaque),
    `COMMENT ON TYPE ${sql.qualified(type)} IS ${sql.quoteLiteral(sql.mark)}`,
  ];
}
