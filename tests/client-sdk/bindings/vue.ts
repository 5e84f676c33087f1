import { createApp, h, ref } from "vue";
import { useLiveQuery, useShape, useStatus, walcast } from "../../../client-sdk/vue.ts";
import { bySql, line, type Mount, type Order } from "./application.ts";

export const mountVue: Mount = (client, target) => {
  const least = ref(0);
  const Orders = {
    setup() {
      const shape = useShape({ table: "orders" });
      const { rows, status: state, error } = useLiveQuery<Order>(bySql, () => [least.value]);
      const status = useStatus();
      return () =>
        h("p", line(status.value, shape.status.value, { rows: rows.value, status: state.value, error: error.value }));
    },
  };
  const app = createApp(Orders);
  app.use(walcast(client));
  app.mount(target);
  return { setLeast: (id) => void (least.value = id), unmount: () => app.unmount() };
};
