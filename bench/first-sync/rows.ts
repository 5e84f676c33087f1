/** A table of orders as shops have them, and what tells whether a replica holds exactly its rows. */
const columns = `id int not null, customer_id int not null, status text not null, amount numeric(12,2) not null,
  created_at timestamptz not null, paid boolean not null, note text`;

/** Without its key. */
export function createTable(table: string): string {
  return `create table ${table} (${columns})`;
}

export function insertRows(table: string, rows: number): string {
  return `insert into ${table}
    select i, 1 + i % 5000, (array['pending', 'paid', 'packed', 'shipped', 'delivered'])[1 + i % 5], (i % 100000) * 1.37,
      timestamptz '2026-01-01' + i * interval '1 second', i % 3 = 0, case when i % 4 > 0 then 'Leave it with the neighbour, number ' || i % 97 end
    from generate_series(1, ${rows}) i`;
}

export function addKey(table: string): string {
  return `alter table ${table} add primary key (id)`;
}

/** One row with one column, `digest`. */
export function digestOf(table: string): string {
  return `select count(*) || ' rows, ' || md5(string_agg(t::text, ' ' order by id)) as digest from ${table} t`;
}

/** What a replica process measured, in ms, and what it holds. */
export interface Loaded {
  readonly openMs: number;
  readonly loadMs: number;
  readonly digest: string;
}
