/** Names that are legal in Postgres are names everywhere: from the config to a live query, and in Kysely. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createClient } from "../../client-sdk/index.ts";
import { qualifiedName, quoteIdentifier, quoteLiteral } from "../../engine/shapes/name.ts";
import { running } from "../sockets/running.ts";
import { emptyReplica } from "../support/replica.ts";

const schema = 'My Schema"."Ta"ble';
// 63 bytes are what a name may have.
const names = [
  "select",
  'a"b',
  "ID",
  "id",
  "__proto__",
  "constructor",
  "toString",
  "é".repeat(31),
  "😀 \\ 'x'",
  "$1",
  " ",
];
const labels = ["", "it's", 'a"b', "__proto__", "😀", "é".repeat(31)];
const q = quoteIdentifier;

for (const table of ["x", "__proto__", 'Größe "😀"', "n".repeat(63)]) {
  test(`a table named ${table}, with columns, types and labels as odd, is synced, changed and queried`, async (t) => {
    const name = qualifiedName(schema, table);
    const type = qualifiedName(schema, 'odd "type"');
    const columns = names.map((column) => `${q(column)} ${column === "id" ? "int" : column === "ID" ? type : "text"}`);
    const world = await running(
      { tables: { [name]: { read: true, columns: names } } },
      `create schema ${q(schema)}; create type ${type} as enum (${labels.map(quoteLiteral).join(", ")});
       create table ${name} (${columns.join(", ")}, hidden text, primary key (${q("__proto__")}, id));
       insert into ${name} values (${names.map((_, i) => (i === 2 ? "''" : `${i}`)).join(", ")})`,
    );
    t.after(() => world.close());
    const replica = await emptyReplica();
    const client = createClient({ url: world.engine.url, replica });
    t.after(() => client.close());
    t.after(() => replica.close());
    await client.sync({ table: name, where: `${q("ID")} <> $1 and ${q("constructor")} is not null`, params: ["it's"] })
      .ready;
    const live = client.live(`select * from ${name} order by id`);
    await live.ready;
    const commit = async (statement: string): Promise<void> =>
      client.awaitPosition({ xid: await world.transaction(statement) });

    for (const label of labels.filter((one) => one !== "it's"))
      await commit(
        `insert into ${name} (id, ${q("__proto__")}, ${q("ID")}, ${q("constructor")}) values (${labels.indexOf(label) + 100}, 'k', ${quoteLiteral(label)}, 'c')`,
      );
    await commit(
      `update ${name} set ${q("__proto__")} = ${q("__proto__")} || '2', ${q("select")} = 's', ${q(" ")} = ' ' where id > 101`,
    );
    await commit(`update ${name} set ${q("ID")} = 'it''s' where id = 103`);
    const query = `select ${names.map(q).join(", ")} from ${name} order by id`;
    const plain = (rows: readonly object[]): unknown => rows.map((row) => Object.entries(row));
    const { rows } = await world.db.query(
      query.replace(" order", ` where ${q("ID")} <> 'it''s' and ${q("constructor")} is not null order`),
    );
    // pg assigns to row.__proto__, which loses it: what it has of the others must be the same.
    const others = (list: readonly object[]): unknown =>
      list.map((row) => Object.entries(row).filter(([key]) => key !== "__proto__"));
    assert.deepEqual(others(await client.query(query)), others(rows));
    assert.deepEqual(plain(live.rows as object[]), plain(await client.query(query)));
    assert.equal(Object.getOwnPropertyDescriptor(live.rows[0], "__proto__")?.value, "4");
    const found = await client.kysely
      .withSchema(schema)
      .selectFrom(table as never)
      .select(["ID", 'a"b'] as never)
      .where("id" as never, "=", 104 as never)
      .execute();
    assert.deepEqual(found, [{ ID: "😀", 'a"b': null }]);
  });
}
