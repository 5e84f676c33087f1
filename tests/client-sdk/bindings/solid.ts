import { createComponent, createSignal, type JSX } from "solid-js";
import { insert, render } from "solid-js/web";
import {
  useChannel,
  useLiveQuery,
  useShape,
  useStatus,
  useTopic,
  WalcastProvider,
} from "../../../client-sdk/bindings/solid.ts";
import { type Database, line, type Mount, onChange, onMessage, type Order, told } from "./application.ts";

export const mountSolid: Mount = (client, target) => {
  const [least, setLeast] = createSignal(0);
  const Orders = (): JSX.Element => {
    const shape = useShape(() => ({ table: "orders" }));
    const orders = useLiveQuery<Order, Database>((db) =>
      db.selectFrom("orders").selectAll().where("id", ">=", least()).orderBy("id"),
    );
    const status = useStatus();
    const topic = useTopic<string>(
      () => "news",
      () => ({ keep: 2, onMessage }),
    );
    const channel = useChannel<Order>(
      () => "orders",
      () => ({ where: "id > 2" }),
      onChange,
    );
    const lines = [() => line(status(), shape().status, orders()), () => told(topic(), channel())];
    // What the compiler makes of `<><p>{line(…)}</p><p>{told(…)}</p></>`, about.
    return lines.map((text) => {
      const p = document.createElement("p");
      insert(p, text);
      return p;
    });
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
