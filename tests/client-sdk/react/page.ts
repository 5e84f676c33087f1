/** The page of react.browser.test.ts: hooks of every kind under StrictMode, and switches for what the test changes. */
import { createElement, StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import { createClient } from "../../../client-sdk/index.ts";
import { useClient, useLiveQuery, useShape, useStatus, WalcastProvider } from "../../../client-sdk/react.ts";

interface Database {
  orders: { id: number; status: string };
}

const client = createClient<Database>({ url: new URLSearchParams(location.search).get("server")! });
const renders: string[] = [];

function Page() {
  const [least, setLeast] = useState(0);
  const [isShown, setShown] = useState(true);
  Object.assign(globalThis, { client, renders, setLeast, setShown });
  return isShown ? createElement(Orders, { least }) : "nothing";
}

function Orders({ least }: { least: number }) {
  const shape = useShape({ table: "orders", params: [] });
  const bySql = useLiveQuery<Database["orders"]>("SELECT id, status FROM orders WHERE id >= $1 ORDER BY id", [least]);
  const byKysely = useLiveQuery<{ id: number }, Database>(
    (db) => db.selectFrom("orders").select("id").where("id", ">=", least).orderBy("id"),
    [least],
  );
  const status = useStatus();
  const isSame = useClient() === (client as unknown);
  const ids = byKysely.rows.map(({ id }) => id);
  const orders = bySql.rows.map((order) => `${order.id} ${order.status}`);
  // What one render shows of the two must be one state.
  if (bySql.status === "ready" && byKysely.status === "ready") renders.push(`${orders.length} and ${ids.length}`);
  return createElement("p", null, [isSame, status, shape.status, bySql.status, orders.join(), ids.join()].join(" | "));
}

createRoot(document.querySelector("main")!).render(
  createElement(StrictMode, null, createElement(WalcastProvider, { client }, createElement(Page))),
);
