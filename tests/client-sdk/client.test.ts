import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";

import { type Client, type ClientOptions, createClient } from "../../client-sdk/index.ts";
import { commit, Peer, table, text } from "./peer.ts";

const orders = table("orders", ["id integer", "status text"]);

async function start(t: TestContext, options: Partial<ClientOptions> = {}): Promise<{ peer: Peer; client: Client }> {
  const peer = await Peer.start(t);
  const client = createClient({ url: peer.url, backoff: { baseMs: 1, maxMs: 20 }, ...options });
  t.after(() => client.close());
  return { peer, client };
}

test("a shape's first rows appear with its join, and changes follow", async (t) => {
  const { peer, client } = await start(t);
  const shape = client.sync({ table: "orders" });
  const server = await peer.greeted();
  const id = await server.serve(orders, [["1", "new"], ["2", "new"]], 10n);
  await shape.ready;
  assert.equal(shape.status, "ready");
  assert.equal(client.position, text(10n));
  assert.equal(client.status, "live");
  server.commits(20n, { [id]: [commit(20n, { kind: "update", row: ["1", "paid"] }, { kind: "insert", row: ["3", "new"] }, { kind: "delete", key: ["2"] })] });
  await client.awaitPosition(text(20n));
  assert.deepEqual(await client.query("select id, status from orders order by id"), [{ id: 1, status: "paid" }, { id: 3, status: "new" }]);
});
