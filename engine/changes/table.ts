/**
 * What a table is: the description that predicates are compiled against and clients create their local table from.
 * A Table is immutable; every change of the schema makes a new one with a new `version`.
 */
export interface Table {
  /** pg_class.oid: what everything is keyed by, since names can be reused. */
  readonly oid: number;
  readonly schema: string;
  readonly name: string;
  /** Changes whenever anything below does, or when the table's heap was rewritten. Text, comparable for equality. */
  readonly version: string;
  /** In the order in which pgoutput sends them. */
  readonly columns: readonly Column[];
  /** Positions in `columns` of the primary key (or of the replica identity index), in the key's own order. */
  readonly key: readonly number[];
  /** pg_class.relreplident: 'd' default, 'n' nothing, 'f' full, 'i' index. Of a partitioned table: 'f' where all leaves have it. */
  readonly replicaIdentity: "d" | "n" | "f" | "i";
  /** Positions in `columns` that an old tuple is sure to carry: all of them under FULL. */
  readonly identityColumns: readonly number[];
  /** User-defined types the columns need, dependencies first. */
  readonly types: readonly TypeDescription[];
  /** Of a partitioned table, those partitions that have rows: changes come under their oids. */
  readonly leaves?: readonly Leaf[];
}

export interface Leaf {
  readonly oid: number;
  /** For each column of the root, where it is in the leaf's rows. */
  readonly columns: readonly number[];
}

/** Under which oids a table's changes come: those of its form under its own, those of its rows under its leaves'. */
export function oidsOf({ oid, leaves = [] }: Table): readonly number[] {
  return [oid, ...leaves.map((leaf) => leaf.oid)];
}

export interface Column {
  readonly name: string;
  /** pg_attribute.attnum: never used again in a table, unlike the name. */
  readonly attnum: number;
  /** pg_attribute.atttypid. */
  readonly typeOid: number;
  readonly typmod: number;
  /** What `format_type` says under `search_path = pg_catalog`: usable in DDL as it stands. */
  readonly type: string;
  /** pg_type.oid after unwrapping domains over domains. */
  readonly baseTypeOid: number;
  /** The base type's pg_type.typtype: 'b' base, 'c' composite, 'e' enum, 'r' range, 'm' multirange. */
  readonly baseTypeKind: string;
  /** typmod of the base type: a domain's own where it is one. */
  readonly baseTypmod: number;
  /** Labels in enum order where the base type is an enum. */
  readonly enumLabels?: readonly string[];
  readonly notNull: boolean;
  /** pg_collation: undefined for types that have none. `deterministic` decides whether equality is byte equality. */
  readonly collation?: {
    readonly schema: string;
    readonly name: string;
    readonly deterministic: boolean;
    readonly isC: boolean;
  };
  /** Positions in the table's `types` of those that it needs: a client is told of no other. */
  readonly types?: readonly number[];
  /** pg_attribute.attmissingval: what rows have in it that are older than the column. Undefined where that is NULL. */
  readonly missing?: string;
}

/** A type the client has to create before the table. Domains carry no constraint: the server has checked already. */
export type TypeDescription =
  | { readonly kind: "enum"; readonly schema: string; readonly name: string; readonly labels: readonly string[] }
  | { readonly kind: "domain"; readonly schema: string; readonly name: string; readonly base: string }
  | {
      readonly kind: "composite";
      readonly schema: string;
      readonly name: string;
      readonly attributes: readonly { readonly name: string; readonly type: string }[];
    }
  | {
      readonly kind: "range";
      readonly schema: string;
      readonly name: string;
      readonly subtype: string;
      readonly multirange: { readonly schema: string; readonly name: string };
    }
  /**
   * A replica may not have it, so the client stores its text: an extension's or a C type, or a range whose bounds are in
   * an order of its own (a collation's, an operator class'), by which a legal value could seem to be upside down.
   */
  | { readonly kind: "opaque"; readonly schema: string; readonly name: string };
