import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { createElement } from "react";
import { renderToString } from "react-dom/server";
import { createComponent } from "solid-js";
import { renderToString as renderSolid } from "solid-js/web";
import { get } from "svelte/store";
import { createSSRApp } from "vue";
import { renderToString as renderVue } from "vue/server-renderer";
import type { Client } from "../../client-sdk/index.ts";
import {
  useChannel,
  useClient,
  useLiveQuery,
  useShape,
  useStatus,
  WalcastProvider,
} from "../../client-sdk/bindings/react.ts";
import * as solid from "../../client-sdk/bindings/solid.ts";
import * as svelte from "../../client-sdk/bindings/svelte.ts";
import * as vue from "../../client-sdk/bindings/vue.ts";
import { start } from "./clients.ts";

/** What is rendered there, by whatever renders it; the client is asked for nothing. */
async function onServer(t: TestContext, render: (client: Client) => string | Promise<string>): Promise<string> {
  const { client } = await start(t, { shapes: { orders: { table: "orders" } } });
  const html = await render(client);
  const { live, shapes, channels } = client.inspect();
  assert.deepEqual([live, channels, shapes.length], [[], [], 1]);
  return html;
}

function inReact(component: () => string): (client: Client) => string {
  return (client) => renderToString(createElement(WalcastProvider, { client }, createElement(component)));
}

const frameworks: Record<string, (client: Client) => string | Promise<string>> = {
  React: inReact(() => {
    const live = useLiveQuery("SELECT 1");
    const waiting = useLiveQuery("SELECT 2", [], { suspense: true });
    useChannel("orders", {}, () => {});
    const seeded = useLiveQuery<{ id: number }>("SELECT 3 AS id", [], { initial: [{ id: 7 }], suspense: true });
    assert.deepEqual([seeded.status, seeded.rows], ["loading", [{ id: 7 }]]);
    const states = [live.status, live.rows.length, waiting.status, useShape({ table: "items" }).status];
    return [...states, useShape("orders").status, useStatus()].join(" ");
  }),
  Vue: (client) => {
    const setup = (): (() => string) => {
      const live = vue.useLiveQuery("SELECT 1", () => []);
      const shapes = [vue.useShape({ table: "items" }), vue.useShape("orders")];
      const status = vue.useStatus();
      const states = [live.status.value, live.rows.value.length, vue.useLiveQuery("SELECT 2").status.value];
      return () => [...states, ...shapes.map(({ status }) => status.value), status.value].join(" ");
    };
    return renderVue(createSSRApp({ setup }).use(vue.walcast(client)));
  },
  Solid: (client) => {
    const App = (): string => {
      const live = solid.useLiveQuery("SELECT 1");
      const states = [live().status, live().rows.length, solid.useLiveQuery("SELECT 2")().status];
      const shapes = [{ table: "items" }, "orders"].map((shape) => solid.useShape(() => shape)().status);
      return [...states, ...shapes, solid.useStatus()()].join(" ");
    };
    const app = {
      client,
      get children() {
        return createComponent(App, {});
      },
    };
    return renderSolid(() => createComponent(solid.WalcastProvider, app));
  },
  "Svelte, which looks at a store and leaves,": (client) => {
    const live = get(svelte.liveQuery(client, "SELECT 1"));
    const states = [live.status, live.rows.length, get(svelte.liveQuery(client, "SELECT 2")).status];
    const shapes = [{ table: "items" }, "orders"].map((shape) => get(svelte.shapeState(client, shape)).status);
    return [...states, ...shapes, get(svelte.clientStatus(client))].join(" ");
  },
};

for (const [name, render] of Object.entries(frameworks)) {
  test(`on a server, ${name} has queries and shapes that are loading, and nothing is started`, async (t) => {
    assert.match(await onServer(t, render), /^loading 0 loading loading loading connecting$/);
  });
}

test("a hook without a provider, and a shape that nobody declared, are refused with what to do", async (t) => {
  assert.throws(() => renderToString(createElement(() => useClient().status)), { code: "config_invalid" });
  await assert.rejects(
    onServer(
      t,
      inReact(() => useShape("nothing").status),
    ),
    { code: "config_invalid", message: /"nothing"/ },
  );
});
