/** The orders of the client's benches, made without a Postgres: the newest first by number. */
import type { TableDescription } from "../../engine/protocol.ts";

const columns = [
  ["id", "integer"],
  ["customer_id", "integer"],
  ["status", "text"],
  ["amount", "numeric(10,2)"],
  ["note", "text"],
  ["created_at", "timestamp with time zone"],
] as const;

export const description: TableDescription = {
  oid: 1,
  schema: "public",
  name: "orders",
  version: "1",
  identity: "orders",
  columns: columns.map(([name, type]) => ({ name, type, notNull: true })),
  key: ["id"],
  types: [],
};

export const createTable = `CREATE TABLE orders (${columns.map((words) => words.join(" ")).join(", ")}, PRIMARY KEY (id)); CREATE INDEX ON orders (created_at DESC)`;

export const upsert = `INSERT INTO orders VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO UPDATE SET ${columns
  .slice(1)
  .map(([name]) => `${name} = EXCLUDED.${name}`)
  .join(", ")}`;

/** With another note the same row is another one. */
export function order(id: number, note: string, customers = 100): string[] {
  const createdAt = new Date(Date.UTC(2026, 0, 1) - id * 60_000).toISOString();
  return [String(id), String(1 + (id % customers)), "pending", (id * 1.37).toFixed(2), note, createdAt];
}

/** As COPY takes them, in pieces. */
export function copyLines(rows: number, customers = 100): Uint8Array[] {
  const ids = Array.from({ length: rows }, (_, id) => id);
  const pieces = Array.from({ length: Math.ceil(rows / 10_000) }, (_, i) => ids.slice(i * 10_000, (i + 1) * 10_000));
  return pieces.map((piece) => Buffer.from(piece.map((id) => `${order(id, "-", customers).join("\t")}\n`).join("")));
}
