import { createComponent, createSignal, type JSX } from "solid-js";
import { render } from "solid-js/web";
import { useLiveQuery, useShape, useStatus, WalcastProvider } from "../../../client-sdk/solid.ts";
import { type Database, line, type Mount, type Order } from "./application.ts";

export const mountSolid: Mount = (client, target) => {
  const [least, setLeast] = createSignal(0);
  const Orders = (): JSX.Element => {
    const shape = useShape(() => ({ table: "orders" }));
    const orders = useLiveQuery<Order, Database>((db) =>
      db.selectFrom("orders").selectAll().where("id", ">=", least()).orderBy("id"),
    );
    const status = useStatus();
    // What the compiler makes of `<>{line(…)}</>`.
    return (() => line(status(), shape().status, orders())) as unknown as JSX.Element;
  };
  const app = (): JSX.Element =>
    createComponent(WalcastProvider, {
      client,
      get children() {
        return createComponent(Orders, {});
      },
    });
  const unmount = render(app, target);
  return { setLeast: (id) => void setLeast(id), unmount };
};
