/** Which types are compared as they are, which after one is written as the other, and which in a way that we do not follow. */
import type { SqlType } from "./type.ts";

// Postgres compares these by converting one side; we do not follow it there.
export const conversions = new Set(["number float4", "number float8", "float4 float8", "text bpchar"]);

export function compatible(left: SqlType, right: SqlType): boolean {
  if (left.type === "enum" || right.type === "enum") return left.oid === right.oid;
  if (left.type === "array" || right.type === "array") return left === right;
  return left.type === right.type || isWider(left, right);
}

/** A constant of the one is written anew as one of the other. */
export function isWider(type: SqlType, { type: other }: SqlType): boolean {
  if (type.type === "float8") return other === "number" || other === "float4";
  if (type.type === "timestamp") return other === "date" || other === "timestamptz";
  return type.type === "timestamptz" && (other === "date" || other === "timestamp");
}
