import { type ComputedRef, createApp, h, ref } from "vue";
import {
  type Refs,
  useChannel,
  useLiveQuery,
  useShape,
  useStatus,
  useTopic,
  walcast,
} from "../../../client-sdk/bindings/vue.ts";
import { bySql, line, type Mount, onChange, onMessage, type Order, told } from "./application.ts";

export const mountVue: Mount = (client, target) => {
  const least = ref(0);
  const Orders = {
    setup() {
      const shape = useShape({ table: "orders" });
      const { rows, status: state, error } = useLiveQuery<Order>(bySql, () => [least.value]);
      const status = useStatus();
      const topic = useTopic<string>("news", { keep: 2, onMessage });
      const channel = useChannel<Order>("orders", { where: "id > 2" }, onChange);
      return () => [
        h("p", line(status.value, shape.status.value, { rows: rows.value, status: state.value, error: error.value })),
        h("p", told(toValues(topic), toValues(channel))),
      ];
    },
  };
  const app = createApp(Orders);
  app.use(walcast(client));
  app.mount(target);
  return { setLeast: (id) => void (least.value = id), unmount: () => app.unmount() };
};

function toValues<State>(refs: Refs<State>): State {
  return Object.fromEntries(Object.entries<ComputedRef>(refs).map(([name, { value }]) => [name, value])) as State;
}
