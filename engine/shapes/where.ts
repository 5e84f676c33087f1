/**
 * A `where` of a shape or of a rule → Predicate: what Postgres would answer for each row, or a refusal. The text is read
 * by Postgres' own grammar, resolved against the table, normalised, and then leaves in two forms that mean the same: a
 * closure for the stream, SQL for the snapshot. What cannot mean exactly the same in both is refused, with a position.
 */
import assert from "node:assert/strict";
import type { Table } from "../changes/table.ts";
import type { Tuple } from "../changes/tuple.ts";
import { compile, type Matches } from "./where/compile.ts";
import { type Node, columnsRead, constant } from "./where/node.ts";
import { guarded, selecting } from "./where/selecting.ts";
import { packTree } from "./where/packed.ts";
import { parsedElsewhere, parseWhere } from "./where/parse.ts";
import { resolve, resolveVetted } from "./where/resolve.ts";

export { EvaluationFailed } from "./where/numeric.ts";
export { loadParser, wasParsed } from "./where/parse.ts";

export interface Predicate {
  /** Equal for predicates that our normalisation finds equal; values of parameters are part of it. */
  readonly canonical: string;
  /** The same condition as SQL of its own: no parameters, the same meaning under any search_path. */
  readonly sql: string;
  /** Positions in the table's columns that it reads, ascending. A row must carry these as text or NULL. */
  readonly columns: readonly number[];
  /** Evaluating it may fail for a row, as Postgres would. */
  readonly mayFail: boolean;
  /** Also for rows of which it is not known who may read them. */
  readonly ruleMayFail: boolean;
  /** SQL's answer: null is unknown. Only true lets a row into a shape. Throws EvaluationFailed, and only that. */
  matches(row: Tuple): boolean | null;
  readonly node: Node;
}

/**
 * Needs `await loadParser()` once before. Parameters are JSON values: numbers, booleans, null, text, or arrays of these.
 * Columns that `isVisible` denies do not exist. Throws WalcastError `where_syntax`, `where_unsupported`, `where_type`,
 * `where_params`, `where_failed` or `unknown_column`, with the position in `where`.
 *
 *     compileWhere("customer_id = $1 AND status <> 'archived'", [7], table)
 */
export function compileWhere(
  where: string,
  params: readonly unknown[],
  table: Table,
  isVisible: (position: number) => boolean = () => true,
): Predicate {
  const { expression, positionOf } = parseWhere(where);
  return predicateOf(resolve(expression, { table, params, isVisible, positionOf }));
}

/** For another thread: throws what compileWhere would, or gives what compileVetted makes the same predicate of, in little time. */
export function vetWhere(
  where: string,
  params: readonly unknown[],
  table: Table,
  isVisible: (position: number) => boolean,
): string {
  const { expression, positionOf } = parseWhere(where);
  const nodes = new Map<unknown, Node>();
  resolve(expression, { table, params, isVisible, positionOf }, nodes);
  return packTree(expression, nodes);
}

/** With the same arguments, of the same version of the table. */
export function compileVetted(
  vetted: string,
  where: string,
  params: readonly unknown[],
  table: Table,
  isVisible: (position: number) => boolean = () => true,
): Predicate {
  const { expression, positionOf } = parsedElsewhere(where, vetted);
  return predicateOf(resolveVetted(expression, { table, params, isVisible, positionOf }));
}

/** The rule comes first: `where` never sees a row that does not pass it, neither here nor in SQL. */
export function both(rule: Predicate, where: Predicate): Predicate {
  assert(rule.node.kind !== "guarded" && where.node.kind !== "guarded", "a guarded predicate stands alone");
  if (isConstant(rule, true)) return where;
  // Also around a `where` that says nothing more: whose failure it is decides what may be told of it.
  if (rule.mayFail) return predicateOf(guarded(selecting(rule.node), selecting(where.node)));
  if (isConstant(where, false)) return where;
  if (isConstant(where, true) || isConstant(rule, false) || rule.canonical === where.canonical) return rule;
  return predicateOf(guarded(rule.node, selecting(where.node)));
}

/** The predicate of a shape, for which not true is as good as false: the order of its parts is then Postgres' to choose, and ours. */
export function selection(predicate: Predicate): Predicate {
  const node = selecting(predicate.node);
  return node === predicate.node ? predicate : predicateOf(node);
}

export function isConstant({ node }: Predicate, value: boolean): boolean {
  return node.kind === "constant" && node.value === value;
}

function predicateOf(node: Node): Predicate {
  return predicateFrom({ node });
}

/** For who keeps many: the source may make its node anew each time, equal ones always. */
export function predicateFrom(source: { readonly node: Node }): Predicate {
  return new CompiledPredicate(source);
}

/** Compiled when it is first asked: the index answers for most predicates without asking them. */
class CompiledPredicate implements Predicate {
  private readonly source: { readonly node: Node };
  private compiled: Matches | undefined = undefined;

  constructor(source: { readonly node: Node }) {
    this.source = source;
  }

  get node(): Node {
    return this.source.node;
  }

  get canonical(): string {
    return this.node.sql;
  }

  get mayFail(): boolean {
    return this.node.mayFail === true;
  }

  get ruleMayFail(): boolean {
    const { node } = this;
    return node.kind === "guarded" && node.rule.mayFail === true;
  }

  get sql(): string {
    return this.node.sql;
  }

  get columns(): readonly number[] {
    return columnsRead(this.node);
  }

  matches(row: Tuple): boolean | null {
    this.compiled ??= compile(this.node);
    return this.compiled(row);
  }
}

/** For a shape without a `where`. */
export const everything: Predicate = predicateOf(constant(true));

/** For a rule that lets nobody in. */
export const nothing: Predicate = predicateOf(constant(false));
