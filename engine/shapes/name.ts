/**
 * Names and literals between SQL text and what they stand for. A table is named as in SQL wherever a stranger names
 * one: `orders`, `sales.orders`, `"My Schema"."Ta""ble"`. Whatever is quoted here means the same under any setting of
 * `standard_conforming_strings`, because COPY takes no parameters and its SQL must carry its values.
 * https://www.postgresql.org/docs/current/sql-syntax-lexical.html
 */
import assert from "node:assert/strict";
import { WalcastError } from "../errors.ts";

export interface TableName {
  readonly schema: string;
  readonly name: string;
}

/** Unquoted names fold to lower case (ASCII only, as Postgres does in UTF-8); no schema means `public`. */
export function parseTableName(text: string): TableName {
  const parts = tableName.exec(text);
  if (!parts)
    throw malformed(text, "a name, or a schema and a name joined by a dot, with double quotes around anything unusual");
  const first = identifier(parts[1]!, text);
  if (parts[2] === undefined) return { schema: "public", name: first };
  return { schema: first, name: identifier(parts[2], text) };
}

export function quoteIdentifier(name: string): string {
  assert(canStandInSql(name) && name !== "", "an identifier is not empty and can stand in SQL");
  return `"${name.replaceAll('"', '""')}"`;
}

export function qualifiedName(schema: string, name: string): string {
  return `${quoteIdentifier(schema)}.${quoteIdentifier(name)}`;
}

/** A backslash means itself in '…' or not, depending on a setting; in E'…' it always has to be doubled. */
export function quoteLiteral(text: string): string {
  assert(canStandInSql(text), "a literal can stand in SQL");
  const quoted = `'${text.replaceAll("'", "''")}'`;
  return text.includes("\\") ? `E${quoted.replaceAll("\\", "\\\\")}` : quoted;
}

/** Postgres stores no zero byte, and half a surrogate pair has no UTF-8 form. */
export function canStandInSql(text: string): boolean {
  return !text.includes("\0") && text.isWellFormed();
}

const part = String.raw`([A-Za-z_\u0080-\uffff][\w$\u0080-\uffff]*|"(?:[^"]|"")+")`;
const tableName = new RegExp(`^${part}(?:\\.${part})?$`);

// NAMEDATALEN - 1. Postgres would cut a longer name and find another table; we say that there is none.
const nameBytesMax = 63;

function identifier(token: string, text: string): string {
  const name = token.startsWith('"') ? token.slice(1, -1).replaceAll('""', '"') : foldAscii(token);
  if (!canStandInSql(name)) throw malformed(text, "text without a zero byte or half a character");
  if (Buffer.byteLength(name) > nameBytesMax) throw malformed(text, `at most ${nameBytesMax} bytes in each part`);
  return name;
}

function foldAscii(token: string): string {
  return token.replace(/[A-Z]+/g, (letters) => letters.toLowerCase());
}

function malformed(text: string, expected: string): WalcastError {
  return new WalcastError(
    "unknown_table",
    `read a table's name: expected ${expected}, found ${JSON.stringify(text.slice(0, 200))}`,
    {
      hint: 'Write it as in SQL: orders, sales.orders or "My Schema"."My Table".',
    },
  );
}
