/** The engine asks Postgres what a client's rows should sum up to, and the client what they do. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { breaches } from "../../engine/invariants.ts";
import { type Running, running } from "./running.ts";

describe("an audit", () => {
  let server: Running;
  before(
    async () =>
      (server = await running(
        {},
        "create table items (id int primary key, v text); insert into items values (1, 'a'), (2, null), (3, 'é')",
      )),
  );
  after(() => server.close());

  const sum = `select sum(('x' || left(md5(row), 16))::bit(64)::bigint)::text as hash from
    (select length(id::text) || ':' || id || coalesce(length(v) || ':' || v, 'n') as row from items) as rows`;

  test("tells each client how many rows it has and what they sum up to, and not those who want changes only", async () => {
    const client = await server.greeted();
    await client.load(1, { table: "items" });
    await client.load(2, { table: "items", where: "id > 2" });
    await client.load(3, { table: "items" }, true);
    await server.engine.audit();
    const audits = [await client.control("audit"), await client.control("audit")];
    const { rows } = await server.db.query(sum);
    assert.deepEqual(
      audits.map((one) => [one.id, one.rows]),
      [
        [1, "3"],
        [2, "1"],
      ],
    );
    assert.equal(audits[0]!.hash, (rows[0] as { hash: string }).hash);
    await client.awaitXid(1, await server.transaction("update items set v = 'b' where id = 2"));
    assert.equal(client.received.filter((one) => "control" in one && one.control.kind === "audit").length, 2);
    await client.close();
  });

  test("that does not match is counted, once and as what a client says, and the shape is loaded anew", async () => {
    const client = await server.greeted();
    await client.load(1, { table: "items" });
    const before = [...breaches];
    client.send({ kind: "audited", id: 1, matches: false });
    await server.engine.audit();
    await client.control("audit");
    client.send({ kind: "audited", id: 1, matches: false });
    client.send({ kind: "audited", id: 1, matches: false });
    assert.equal((await client.control("resync")).cause.code, "audit_mismatch");
    assert.equal((await client.joined(1)).lines.length, 3);
    const results = ["matched", "mismatched"].map((result) => `walcast_audits_total{result="${result}"}`);
    assert.deepEqual(await Promise.all(results.map((name) => server.metric(name))), [0, 1]);
    assert.equal(await server.metric('walcast_resyncs_total{cause="audit_mismatch"}'), 1);
    assert.deepEqual([...breaches], before, "the engine cannot know");
    await client.close();
  });

  test("gets through beside its rows while others write, and to its rows once they let it", async () => {
    const client = await server.greeted();
    const [beside, among] = [1, 2];
    await client.load(beside, { table: "items", where: "id <= 3" });
    await client.load(among, { table: "items" });
    const audited = (id: number): boolean =>
      client.received.some((one) => "control" in one && one.control.kind === "audit" && one.control.id === id);
    const over = { is: false };
    const writing = (async () => {
      for (let id = 100; !over.is; id++) await server.transaction(`insert into items values (${id}, 'w')`);
    })();
    await server.engine.audit();
    await client.control("audit", ({ id }) => id === beside);
    over.is = true;
    await writing;
    while (!audited(among)) await server.engine.audit();
    await client.close();
  });

  test("is of the columns that a rule lets through", async () => {
    await server.db.query("create table people (id int primary key, name text, secret text)");
    await server.db.query("insert into people values (1, 'Ada', 'x')");
    const client = await server.greeted();
    await client.load(1, { table: "people", columns: ["id", "name"] });
    await server.engine.audit();
    const { rows, hash } = await client.control("audit");
    const { rows: expected } = await server.db.query(
      "select ('x' || left(md5('1:13:Ada'), 16))::bit(64)::bigint::text as hash",
    );
    assert.deepEqual([rows, hash], ["1", (expected[0] as { hash: string }).hash]);
    await client.close();
  });
});
