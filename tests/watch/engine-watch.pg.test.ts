/** What a program that runs the engine is given of a query, and what its pages are of that. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Kysely, PostgresAdapter, DummyDriver, PostgresIntrospector, PostgresQueryCompiler } from "kysely";
import { sql, sse } from "../../engine/index.ts";
import { type Running, running } from "../sockets/running.ts";
import { until } from "../support/until.ts";
import { EventReader } from "./event-reader.ts";

interface Order {
  id: number;
  customer: string;
  amount: string;
}

const setup = `
  create table orders (id int primary key, customer text not null, amount numeric(10, 2) not null);
  create table vips (customer text primary key);
  create view vip_orders as select o.* from orders o join vips using (customer);
  create function total() returns numeric language plpgsql stable as $$ begin return (select sum(amount) from orders); end $$;
  insert into orders values (1, 'Ada', 10), (2, 'Bob', 20), (3, 'ada', 5);
  insert into vips values ('Ada');
`;

describe("engine.watch", () => {
  let server: Running;
  const heartbeat = { intervalMs: 20, initialDelayMs: 5, comment: "still here" };
  before(async () => {
    const app = (request: Request): Response => {
      const { pathname } = new URL(request.url);
      const { signal } = request;
      if (pathname === "/page")
        return sse(html(server.engine.watch<Order>({ table: "orders" }, { signal })), { heartbeat });
      return sse(server.engine.watch("select count(*)::int as orders from orders", { signal }), { signal });
    };
    const read = (auth: { claims: Record<string, unknown> }) => sql`customer = ${auth.claims["sub"]}`;
    server = await running({ app, tables: { orders: { read }, vips: { read: true } } }, setup);
  });
  after(() => server.close());

  async function* html(states: AsyncIterable<readonly Order[]>): AsyncIterable<string> {
    for await (const orders of states)
      yield `<ul>\n${orders
        .toSorted((a, b) => a.id - b.id)
        .map(({ customer }) => `<li>${customer}`)
        .join("\n")}\n</ul>`;
  }

  const nothingLeft = (): Promise<void> =>
    until(() => server.engine.stats().watches === 0 && server.engine.stats().shapes === 0);

  test("gives the rows at once, then after every commit that changes them, and nothing is left after a break", async () => {
    const seen: unknown[] = [];
    let position = "";
    for await (const rows of server.engine.watch<Order>({
      table: "orders",
      where: "amount > $1",
      params: [9],
      columns: ["id"],
    })) {
      seen.push(rows.map(({ id }) => id).toSorted((a, b) => a - b));
      position = rows.position;
      if (seen.length === 1) {
        await server.transaction("update vips set customer = customer");
        await server.transaction("update orders set amount = 9.01 where id = 3", "delete from orders where id = 2");
      } else break;
    }
    assert.deepEqual(seen, [
      [1, 2],
      [1, 3],
    ]);
    assert.match(position, /^[0-9A-F]+\/[0-9A-F]+$/);
    await nothingLeft();
    await server.transaction("update orders set amount = 5 where id = 3", "insert into orders values (2, 'Bob', 20)");
  });

  test("gives what any query returns, whatever it reads: joins, views, functions; in Kysely's words too", async () => {
    const db = new Kysely<{ vip_orders: Order }>({
      dialect: {
        createAdapter: () => new PostgresAdapter(),
        createDriver: () => new DummyDriver(),
        createIntrospector: (kysely) => new PostgresIntrospector(kysely),
        createQueryCompiler: () => new PostgresQueryCompiler(),
      },
    });
    const query = db.selectFrom("vip_orders").selectAll().where("amount", ">", "1").orderBy("id");
    const vips = server.engine.watch<Order>(query)[Symbol.asyncIterator]();
    const total = server.engine.watch<{ total: string }>(sql`select total() + ${1} as total`)[Symbol.asyncIterator]();
    assert.deepEqual((await vips.next()).value, [{ id: 1, customer: "Ada", amount: "10.00" }]);
    assert.deepEqual((await total.next()).value, [{ total: "36.00" }]);
    await server.transaction("insert into vips values ('Bob')", "update orders set amount = 21 where id = 2");
    assert.deepEqual(
      [...(await vips.next()).value!].map(({ id, amount }) => [id, amount]),
      [
        [1, "10.00"],
        [2, "21.00"],
      ],
    );
    assert.deepEqual((await total.next()).value, [{ total: "37.00" }]);
    await server.transaction("update orders set amount = 20 where id = 2", "delete from vips where customer = 'Bob'");
    assert.equal((await vips.next()).value!.length, 1);
    const pending = vips.next();
    await Promise.all([vips.return!(), total.return!()]);
    assert.deepEqual(await pending, { done: true, value: undefined });
    await nothingLeft();
  });

  test("an order and a limit are Postgres' own", async () => {
    const query = {
      table: "orders",
      orderBy: ['customer collate "C" desc', "id"],
      limit: 2,
      columns: ["id", "customer"],
    };
    const states = server.engine.watch<Order>(query)[Symbol.asyncIterator]();
    const ids = async (): Promise<number[]> => [...(await states.next()).value!].map(({ id }) => id);
    assert.deepEqual(await ids(), [3, 2]);
    await server.transaction("insert into orders values (4, 'zoe', 1)");
    assert.deepEqual(await ids(), [4, 3]);
    await states.return!();
    await server.transaction("delete from orders where id = 4");
  });

  test("rights that are given are those of the rule; without, all rows are there", async () => {
    const first = async (auth?: { claims: Record<string, unknown>; scopes: string[] }): Promise<number[]> => {
      for await (const rows of server.engine.watch<Order>({ table: "orders" }, { auth }))
        return rows.map(({ id }) => id).toSorted((a, b) => a - b);
      return [];
    };
    assert.deepEqual([await first(), await first({ claims: { sub: "Bob" }, scopes: [] })], [[1, 2, 3], [2]]);
    await assert.rejects(first({ claims: {}, scopes: [] }), { code: "forbidden" });
    await assert.rejects(async () => server.engine.watch("select 1", { auth: { claims: {}, scopes: [] } }), {
      code: "forbidden",
    });
    await assert.rejects(Array.fromAsync(server.engine.watch("select * from nothing")), { code: "query_failed" });
    await nothingLeft();
  });

  test("of a burst come few states, at least so far apart, and the last is right", async () => {
    const coalesceMs = 50;
    for (const query of [{ table: "orders", where: "id = 1" }, "select amount from orders where id = 1"]) {
      await server.transaction("update orders set amount = 10 where id = 1");
      const began = performance.now();
      let states = 0;
      for await (const [order] of server.engine.watch<Order>(query, { coalesceMs })) {
        if (states++ === 0)
          void server.db.query(
            "do $$ begin for i in 1..1500 loop update orders set amount = i where id = 1; commit; end loop; end $$",
          );
        if (order!.amount === "1500.00") break;
      }
      const most = (performance.now() - began) / coalesceMs + 2;
      assert.ok(states > 1 && states <= most, `expected at most ${most} states, found ${states}`);
    }
    await server.transaction("update orders set amount = 10 where id = 1");
  });

  test("Postgres away is waited for, and then comes the current state", async () => {
    const slow = "select customer, pg_advisory_xact_lock_shared(1)::text from vips";
    const rows = server.engine.watch<{ customer: string }>({ table: "vips" })[Symbol.asyncIterator]();
    const results = server.engine.watch<{ customer: string }>(slow)[Symbol.asyncIterator]();
    const shown = async (next: Promise<IteratorResult<readonly { customer: string }[]>>): Promise<string> =>
      [...((await next).value as { customer: string }[])].map(({ customer }) => customer).join();
    const endThose = async (which: string): Promise<number> => {
      const { rowCount } = await server.db.query(
        `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() and ${which}`,
      );
      return rowCount!;
    };
    assert.deepEqual([await shown(rows.next()), await shown(results.next())], ["Ada", "Ada"]);
    const holder = await server.db.pool.connect();
    await holder.query("select pg_advisory_lock(1)");
    await server.transaction("update vips set customer = 'Zoe'");
    const asked = [rows.next(), results.next()];
    await until(async () => (await endThose(`state = 'active' and query = '${slow}'`)) > 0);
    await endThose("application_name <> ''");
    await holder.query("select pg_advisory_unlock(1)");
    holder.release();
    assert.deepEqual(await Promise.all(asked.map(shown)), ["Zoe", "Zoe"]);
    await server.transaction("update vips set customer = 'Ada'");
    assert.deepEqual(await Promise.all([rows, results].map((states) => shown(states.next()))), ["Ada", "Ada"]);
    await Promise.all([rows.return!(), results.return!()]);
    await nothingLeft();
  });

  test("a signal ends it, and lets go of everything", async () => {
    const aborting = new AbortController();
    const all = Array.fromAsync(server.engine.watch({ table: "vips" }, { signal: aborting.signal }));
    await until(() => server.engine.stats().shapes === 1);
    aborting.abort();
    assert.ok((await all).length <= 1);
    assert.deepEqual(await Array.fromAsync(server.engine.watch({ table: "vips" }, { signal: aborting.signal })), []);
    await nothingLeft();
  });

  test("as a response it is HTML over SSE, from any server and from the engine's own, and a reader that leaves frees it", async () => {
    const page = await EventReader.open(`${server.engine.url}/page`);
    assert.deepEqual((await page.next()).data, "<ul>\n<li>Ada\n<li>Bob\n<li>ada\n</ul>");
    await server.transaction("update orders set customer = 'Eve' where id = 2");
    assert.match((await page.next()).data as string, /<li>Eve/);
    await until(() => page.comments > 2);
    const counted = await EventReader.open(`${server.engine.url}/count`);
    const { data, id } = await counted.next();
    assert.deepEqual([data, typeof id], [[{ orders: 3 }], "string"]);
    page.close();
    counted.close();
    await nothingLeft();
    await server.transaction("update orders set customer = 'Bob' where id = 2");
  });
});
