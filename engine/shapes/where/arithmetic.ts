/** Rows of functions.ts: arithmetic over integers, numeric and floats. */
import assert from "node:assert/strict";
import { floatArithmetic } from "./float.ts";
import type { Operation } from "./functions.ts";
import {
  absolute,
  add,
  asNumeric,
  divide,
  dividedInteger,
  inRange,
  magnitude,
  multiply,
  negate,
  type Numeric,
  remainder,
  remainderInteger,
  subtract,
} from "./numeric.ts";
import { isBytes, type Value } from "./scalar.ts";

type Present = Exclude<Value, null>;

const rules = { kind: "operator", mayFail: true, isCommutative: false, needs: "nothing" } as const;

export const integerTypes = [
  { name: "int2", bits: 16, outOfRange: "smallint out of range" },
  { name: "int4", bits: 32, outOfRange: "integer out of range" },
  { name: "int8", bits: 64, outOfRange: "bigint out of range" },
];

export const arithmetic: readonly Operation[] = [
  ...integerTypes.flatMap((type): Operation[] => {
    const one = { ...rules, args: [type.name], result: type.name };
    const two = { ...rules, args: [type.name, type.name], result: type.name };
    const ranged =
      (compute: (a: bigint, b: bigint) => bigint) =>
      (a: Present, b: Present): bigint =>
        inRange(compute(integer(a), integer(b)), type);
    const alone =
      (compute: (a: bigint) => bigint) =>
      (a: Present): bigint =>
        inRange(compute(integer(a)), type);
    return [
      { ...two, name: "+", isCommutative: true, evaluate: ranged((a, b) => a + b) },
      { ...two, name: "-", evaluate: ranged((a, b) => a - b) },
      { ...two, name: "*", isCommutative: true, evaluate: ranged((a, b) => a * b) },
      { ...two, name: "/", evaluate: ranged(dividedInteger) },
      { ...two, name: "%", evaluate: ranged(remainderInteger) },
      { ...one, name: "-", evaluate: alone((a) => -a) },
      { ...one, name: "+", mayFail: false, evaluate: (a) => a },
      { ...one, name: "@", evaluate: alone(magnitude) },
      { ...one, name: "abs", kind: "function", evaluate: alone(magnitude) },
    ];
  }),
  ...((): Operation[] => {
    const one = { ...rules, args: ["numeric"], result: "numeric", mayFail: false };
    const two = { ...rules, args: ["numeric", "numeric"], result: "numeric" };
    const pair =
      (compute: (a: Numeric, b: Numeric) => Numeric) =>
      (a: Present, b: Present): Numeric =>
        compute(numeric(a), numeric(b));
    const alone =
      (compute: (a: Numeric) => Numeric) =>
      (a: Present): Numeric =>
        compute(numeric(a));
    return [
      { ...two, name: "+", isCommutative: true, evaluate: pair(add) },
      { ...two, name: "-", evaluate: pair(subtract) },
      { ...two, name: "*", isCommutative: true, evaluate: pair(multiply) },
      { ...two, name: "/", evaluate: pair(divide) },
      { ...two, name: "%", evaluate: pair(remainder) },
      { ...one, name: "-", evaluate: alone(negate) },
      { ...one, name: "+", evaluate: (a) => a },
      { ...one, name: "@", evaluate: alone(absolute) },
      { ...one, name: "abs", kind: "function", evaluate: alone(absolute) },
    ];
  })(),
  ...(["float4", "float8"] as const).flatMap((type): Operation[] => {
    const one = { ...rules, args: [type], result: type, mayFail: false };
    const compute = floatArithmetic(type);
    return [
      ...(["+", "-", "*", "/"] as const).map((name) => ({
        ...rules,
        args: [type, type],
        result: type,
        name,
        isCommutative: name === "+" || name === "*",
        evaluate: (a: Present, b: Present) => compute[name](float(a), float(b)),
      })),
      { ...one, name: "-", evaluate: (a) => -float(a) },
      { ...one, name: "+", evaluate: (a) => a },
      { ...one, name: "@", evaluate: (a) => Math.abs(float(a)) },
      { ...one, name: "abs", kind: "function", evaluate: (a) => Math.abs(float(a)) },
    ];
  }),
];

function integer(value: Present): bigint {
  assert(typeof value === "bigint", "an operator over integers is given integers");
  return value;
}

function numeric(value: Present): Numeric {
  assert(!isBytes(value) && typeof value !== "number", "an operator over numeric is given numbers of its kind");
  return asNumeric(value);
}

function float(value: Present): number {
  assert(typeof value === "number", "an operator over floats is given floats");
  return value;
}
