/**
 * The values of $1, $2, … They come as JSON, or from a server's own code, and stand for literals of unknown type, as
 * parameters do in Postgres: the column they are compared with decides what their text means.
 */
import { WalcastError } from "../../errors.ts";
import { canStandInSql } from "../name.ts";

export type ParamText = string | null;
/** Only a refusal asks for it. */
export type Position = () => number | undefined;

const textBytesMax = 65_536;

/** A parameter where one value stands. */
export function paramText(value: unknown, number: number, position: Position): ParamText {
  if (Array.isArray(value))
    throw refused(number, position, "one value", "an array", `Write = ANY($${number}) to compare with any of them.`);
  return text(value, number, position);
}

/** A parameter where an array stands: its elements, or a literal such as '{1,2}' to be read. */
export function paramElements(
  value: unknown,
  number: number,
  position: Position,
): readonly ParamText[] | string | null {
  if (value === null || typeof value === "string") return text(value, number, position);
  if (!Array.isArray(value)) throw refused(number, position, "an array", typeof value);
  return paramArray(value, number, position);
}

export function paramArray(value: readonly unknown[], number: number, position: Position): readonly ParamText[] {
  return value.map((element) => text(element, number, position));
}

function text(value: unknown, number: number, position: Position): ParamText {
  switch (typeof value) {
    case "string":
      return checked(value, number, position);
    case "boolean":
    case "bigint":
      return String(value);
    case "number":
      return numberText(value, number, position);
    default:
      if (value === null) return null;
      throw refused(
        number,
        position,
        "a number, a boolean, text or null",
        Array.isArray(value) ? "an array in an array" : typeof value,
      );
  }
}

/** JSON.parse has already rounded an integer that a double cannot hold: nobody can know which one was meant. */
function numberText(value: number, number: number, position: Position): string {
  const isExact = Number.isFinite(value) && (!Number.isInteger(value) || Number.isSafeInteger(value));
  if (!isExact)
    throw refused(number, position, "a number that a double holds exactly", "a larger one", "Pass it as text.");
  return String(value);
}

function checked(value: string, number: number, position: Position): string {
  if (!canStandInSql(value)) throw refused(number, position, "text without a zero byte or half a character", "one");
  if (value.length > textBytesMax)
    throw refused(number, position, `at most ${textBytesMax} characters`, String(value.length));
  return value;
}

function refused(number: number, position: Position, expected: string, found: string, hint?: string): WalcastError {
  return new WalcastError("where_params", `read parameter $${number}: expected ${expected}, found ${found}`, {
    position: position(),
    hint,
  });
}
