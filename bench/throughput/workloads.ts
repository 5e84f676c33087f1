/** What is written: each with its tables and one transaction. What a writer writes is in the text, so that all of them are one message. */
const orders = 10_000;
const tenants = 1_000;
/** As pgbench has them, at scale 1. https://www.postgresql.org/docs/current/pgbench.html */
const accounts = 100_000;
const tellers = 10;

export interface Workload {
  readonly tables: readonly string[];
  readonly setUp: string;
  /** Of one transaction: how many rows it changes. */
  readonly rows: number;
  transaction(random: () => number): string;
}

const ordersTable = `create table bench_orders (id int primary key, tenant int not null, status text not null, amount numeric(12,2) not null);
  insert into bench_orders select g, g % ${tenants}, 'new', g from generate_series(0, ${orders - 1}) g;`;

function updateOf(pick: (random: () => number) => number): Workload {
  return {
    tables: ["bench_orders"],
    setUp: ordersTable,
    rows: 1,
    transaction: (random) => `update bench_orders set status = 'paid', amount = amount + 1 where id = ${pick(random)}`,
  };
}

export const workloads = {
  /** Any order as likely as any other. */
  uniform: updateOf((random) => Math.floor(random() * orders)),
  /** One row that everybody changes, and waits for. */
  "hot row": updateOf(() => 0),
  /** One tenant in a hundred has nearly half of the changes. */
  "skewed tenants": updateOf((random) => {
    const tenant = Math.floor(tenants * random() ** 6);
    return tenant + tenants * Math.floor((random() * orders) / tenants);
  }),
  /** pgbench's own tables and transaction ("TPC-B (sort of)"), written whole; its history has a key, which a shape needs. */
  "TPC-B": {
    tables: ["pgbench_branches", "pgbench_tellers", "pgbench_accounts", "pgbench_history"],
    setUp: `
      create table pgbench_branches (bid int not null primary key, bbalance int, filler char(88));
      create table pgbench_tellers (tid int not null primary key, bid int, tbalance int, filler char(84));
      create table pgbench_accounts (aid int not null primary key, bid int, abalance int, filler char(84));
      create table pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22), hid bigserial primary key);
      insert into pgbench_branches values (1, 0);
      insert into pgbench_tellers select g, 1, 0 from generate_series(1, ${tellers}) g;
      insert into pgbench_accounts select g, 1, 0, '' from generate_series(1, ${accounts}) g;`,
    rows: 4,
    transaction: (random) => {
      const [aid, tid] = [1 + Math.floor(random() * accounts), 1 + Math.floor(random() * tellers)];
      const delta = Math.floor(random() * 10_001) - 5_000;
      return `begin;
        update pgbench_accounts set abalance = abalance + ${delta} where aid = ${aid};
        select abalance from pgbench_accounts where aid = ${aid};
        update pgbench_tellers set tbalance = tbalance + ${delta} where tid = ${tid};
        update pgbench_branches set bbalance = bbalance + ${delta} where bid = 1;
        insert into pgbench_history (tid, bid, aid, delta, mtime) values (${tid}, 1, ${aid}, ${delta}, current_timestamp);
        end`;
    },
  },
} as const satisfies Record<string, Workload>;

export type WorkloadName = keyof typeof workloads;

/** What probes change: a row of a table of its own, which whoever listens has too. */
export const probeTable = "bench_probe";
export const setUpProbe = `create table ${probeTable} (id int primary key, n int not null); insert into ${probeTable} values (1, 0)`;
