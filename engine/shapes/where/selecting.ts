/**
 * Conditions that choose rows, where not true is as good as false, and the order in which their parts are asked: a rule
 * before the client's own condition, what cannot fail before what can.
 */
import { and, failing, isTruth, type Node, or } from "./node.ts";

/**
 * The rule stands before the CASE too: that changes nothing about which rows pass, and lets Postgres find them by an
 * index, which it cannot look for inside a CASE.
 */
export function guarded(rule: Node, where: Node): Node {
  const inOrder = `CASE WHEN ${rule.sql} THEN ${where.sql} ELSE false END`;
  const sql = rule.mayFail ? inOrder : `(${rule.sql} AND ${inOrder})`;
  return failing(rule.mayFail ?? where.mayFail, { kind: "guarded", rule, where, sql });
}

/**
 * A condition that selects rows: not true is as good as false. Which part of an AND is asked first is Postgres' choice then,
 * and ours: those that cannot fail are a guard of the others, in which the written order counts.
 */
export function selecting(node: Node): Node {
  if (node.kind === "guarded" || !node.mayFail) return withoutTruth(node);
  const parts = node.kind === "and" ? node.parts : [node];
  const { safe = [], failing: rest = [] } = Object.groupBy(parts, ({ mayFail }) => (mayFail ? "failing" : "safe"));
  const last = isTruth(and(rest), true, false);
  return safe.length === 0 ? last : guarded(withoutTruth(and(safe)), last);
}

/** IS TRUE says nothing more here. */
function withoutTruth(node: Node): Node {
  if (node.kind === "truth") return node.truth === true && !node.negated ? withoutTruth(node.part) : node;
  if (node.kind !== "and" && node.kind !== "or") return node;
  const parts = node.parts.map(withoutTruth);
  if (parts.every((part, i) => part === node.parts[i])) return node;
  return node.kind === "and" ? and(parts) : or(parts);
}
