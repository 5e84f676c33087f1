import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { createElement } from "react";
import { renderToString } from "react-dom/server";
import { createClient } from "../../client-sdk/index.ts";
import { useClient, useLiveQuery, useShape, useStatus, WalcastProvider } from "../../client-sdk/react.ts";
import { emptyReplica } from "../support/replica.ts";
import { Peer } from "./peer.ts";

async function render(t: TestContext, component: () => string): Promise<string> {
  const peer = await Peer.start(t);
  const replica = await emptyReplica();
  const client = createClient({ url: peer.url, replica, shapes: { orders: { table: "orders" } } });
  t.after(async () => {
    await client.close();
    await replica.close();
  });
  const html = renderToString(createElement(WalcastProvider, { client }, createElement(component)));
  assert.deepEqual(client.inspect().live, []);
  assert.equal(client.inspect().shapes.length, 1);
  return html;
}

test("on a server, queries and shapes are loading, and nothing is started", async (t) => {
  const html = await render(t, () => {
    const live = useLiveQuery("SELECT 1");
    return [
      live.status,
      live.rows.length,
      useShape({ table: "items" }).status,
      useShape("orders").status,
      useStatus(),
    ].join(" ");
  });
  assert.equal(html, "loading 0 loading loading connecting");
});

test("a hook without a provider, and a shape that nobody declared, are refused with what to do", async (t) => {
  assert.throws(() => renderToString(createElement(() => useClient().status)), { code: "config_invalid" });
  await assert.rejects(
    render(t, () => useShape("nothing").status),
    { code: "config_invalid", message: /"nothing"/ },
  );
});
