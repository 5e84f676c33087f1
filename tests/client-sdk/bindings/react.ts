/** Hooks of every kind under StrictMode. */
import { type ComponentType, createElement, StrictMode, Suspense, useState } from "react";
import { createRoot } from "react-dom/client";
import {
  useChannel,
  useClient,
  useLiveQuery,
  useShape,
  useStatus,
  useTopic,
  WalcastProvider,
} from "../../../client-sdk/bindings/react.ts";
import { bySql, type Database, line, type Mount, onChange, onMessage, type Order, told } from "./application.ts";

const renders: string[] = [];
Object.assign(globalThis, { renders });

export const mountReact = mounting(Orders);

/** A query that suspends begins while it is rendered: its shape is there before. */
export const mountWaiting: Mount = (client, target) => {
  const shape = client.sync({ table: "orders" });
  const { setLeast, unmount } = mounting(Waiting)(client, target);
  return {
    setLeast,
    unmount: () => {
      unmount();
      void shape.unsubscribe();
    },
  };
};

function mounting(component: ComponentType<{ least: number }>): Mount {
  return (client, target) => {
    const root = createRoot(target);
    const switches = { setLeast: (_id: number): void => {} };
    const Page = () => {
      const [least, set] = useState(0);
      Object.assign(switches, { setLeast: set });
      return createElement(component, { least });
    };
    const app = createElement(WalcastProvider, { client }, createElement(Page));
    root.render(createElement(StrictMode, null, app));
    return { setLeast: (id) => switches.setLeast(id), unmount: () => root.unmount() };
  };
}

function Orders({ least }: { least: number }) {
  const shape = useShape({ table: "orders", params: [] });
  const orders = useLiveQuery<Order>(bySql, [least]);
  const byKysely = useLiveQuery<{ id: number }, Database>(
    (db) => db.selectFrom("orders").select("id").where("id", ">=", least).orderBy("id"),
    [least],
  );
  const status = useStatus();
  const isSame = useClient() === (globalThis as unknown as { client: unknown }).client;
  const ids = byKysely.rows.map(({ id }) => id);
  // What one render shows of the two must be one state.
  if (orders.status === "ready" && byKysely.status === "ready") renders.push(`${orders.rows.length} and ${ids.length}`);
  const topic = useTopic<string>("news", { keep: 2, onMessage });
  const channel = useChannel<Order>("orders", { where: "id > 2" }, onChange);
  return [
    createElement("p", { key: "rows" }, [isSame, line(status, shape.status, orders), ids.join()].join(" | ")),
    createElement("p", { key: "told" }, told(topic, channel)),
  ];
}

/** Suspends until its shape is there, shows the rows of a seed until then, and lists the events of a channel. */
function Waiting({ least }: { least: number }) {
  const [events, setEvents] = useState<readonly string[]>([]);
  const seeded = useLiveQuery<Order>(bySql, [least], { initial: [{ id: 0, status: "of a seed" }], suspense: true });
  const channel = useChannel<Order>("orders", { where: "id > 2" }, ({ type, row }) =>
    setEvents([...events, `${type} ${row?.id ?? ""}`]),
  );
  const fallback = createElement("p", null, "waiting");
  return [
    createElement(Suspense, { key: "rows", fallback }, createElement(Suspended, { least })),
    createElement("p", { key: "seeded" }, `seeded ${seeded.status} | ${seeded.rows.map(({ id }) => id).join()}`),
    createElement("p", { key: "events" }, `${channel.status} | ${events.join()}`),
  ];
}

function Suspended({ least }: { least: number }) {
  const { status, rows } = useLiveQuery<Order>(bySql, [least], { suspense: true });
  return createElement("p", null, `${status} | ${rows.map(({ id }) => id).join()}`);
}
