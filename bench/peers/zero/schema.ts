/** Each workload's tables as Zero wants them declared, and the queries that its server is asked for by name. */
import {
  boolean,
  createBuilder,
  createSchema,
  defineQueriesWithType,
  defineQuery,
  number,
  string,
  table,
} from "@rocicorp/zero";

const id = number();
const order = { id, customer_id: number(), status: string(), amount: number(), created_at: number() };
const ofTable = <T extends Parameters<typeof createSchema>[0]["tables"]>(...tables: [...T]) => createSchema({ tables });

/** As `latency/rows.ts` has them. */
const newest = ofTable(
  table("bench_orders")
    .columns({ ...order, note: string() })
    .primaryKey("id"),
);
/** As `first-sync/rows.ts` has them. */
const many = ofTable(
  table("bench_orders")
    .columns({ ...order, paid: boolean(), note: string().optional() })
    .primaryKey("id"),
);
/** As `throughput/workloads.ts` has them. */
const written = ofTable(
  table("bench_orders").columns({ id, tenant: number(), status: string(), amount: number() }).primaryKey("id"),
  table("bench_probe").columns({ id, n: number() }).primaryKey("id"),
);

const newestOrders = createBuilder(newest).bench_orders;
const manyOrders = createBuilder(many).bench_orders;
const { bench_orders: writtenOrders, bench_probe: probes } = createBuilder(written);

export const workloads = {
  newest: {
    schema: newest,
    queries: defineQueriesWithType<typeof newest>()({
      all: defineQuery(() => newestOrders),
      top: defineQuery(({ args: { top } }: { args: { top: number } }) =>
        newestOrders.orderBy("created_at", "desc").limit(top),
      ),
    }),
  },
  many: {
    schema: many,
    queries: defineQueriesWithType<typeof many>()({ all: defineQuery(() => manyOrders) }),
  },
  written: {
    schema: written,
    queries: defineQueriesWithType<typeof written>()({
      all: defineQuery(() => writtenOrders),
      probe: defineQuery(() => probes),
    }),
  },
};

export type WorkloadName = keyof typeof workloads;
