/** The table that commits change: orders, the newest first by number. */
export const columns = ["id", "customer_id", "status", "amount", "note", "created_at"] as const;

export function createTable(table: string): string {
  return `create table ${table} (id int primary key, customer_id int not null, status text not null, amount numeric(10,2) not null, note text not null, created_at timestamptz not null)`;
}

export function insertRows(table: string, rows: number): string {
  return `insert into ${table} select i, 1 + i % 100, 'pending', i * 1.37, '', timestamptz '2026-01-01' - i * interval '1 minute' from generate_series(0, ${rows - 1}) i`;
}
