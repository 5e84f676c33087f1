import type { Client } from "@walcast/client";
import { useLiveQuery, useShape, walcast } from "@walcast/client/vue";
import { createApp, h } from "vue";
import { newest, type Order, text } from "./orders.ts";

export function mountVue(client: Client, target: HTMLElement): void {
  createApp(Orders).use(walcast(client)).mount(target);
}

const Orders = {
  setup() {
    const { rows } = useLiveQuery<Order>(newest, [5]);
    const { error } = useShape("orders");
    // A render function, so that nothing has to compile a template.
    return () =>
      error.value
        ? h("p", error.value.message)
        : h(
            "ul",
            rows.value.map((order) => h("li", { key: order.id }, text(order))),
          );
  },
};
