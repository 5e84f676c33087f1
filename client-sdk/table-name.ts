/** How SQL names tables. */
import { type ShapeRequest, WalcastError } from "../engine/protocol.ts";

export function quoteIdentifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

export interface TableName {
  readonly schema: string;
  readonly name: string;
}

export function qualified({ schema, name }: TableName): string {
  return `${quoteIdentifier(schema)}.${quoteIdentifier(name)}`;
}

export const identifier = String.raw`"(?:[^"\0]|"")+"|[\p{L}_][\p{L}\p{N}_$]*`;
const tableNamePattern = new RegExp(String.raw`^\s*(?:(${identifier})\s*\.\s*)?(${identifier})\s*$`, "u");

/** A table as SQL names it: unquoted folds to lower case, no schema means `public`. Throws `config_invalid`. */
export function parseTableName(text: string): TableName {
  const parts = tableNamePattern.exec(text);
  if (!parts) {
    throw new WalcastError(
      "config_invalid",
      `read a table name: expected a form like orders, sales.orders or "My Schema"."Orders", found ${JSON.stringify(text)}`,
    );
  }
  return { schema: parts[1] === undefined ? "public" : unquote(parts[1]), name: unquote(parts[2]!) };
}

/** Equal for requests that ask for the same rows and columns in other words, as far as that shows. */
export function requestKey({ table, where, params = [], columns }: ShapeRequest): string {
  const name = qualified(parseTableName(table));
  return JSON.stringify([name, where ?? null, where === undefined ? [] : params, columns ? [...columns].sort() : null]);
}

export function unquote(text: string): string {
  // Postgres folds ASCII only; what lies beyond depends on the server's locale.
  return text.startsWith('"')
    ? text.slice(1, -1).replaceAll('""', '"')
    : text.replace(/[A-Z]/g, (letter) => letter.toLowerCase());
}
