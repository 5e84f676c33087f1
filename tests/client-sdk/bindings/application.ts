/** What the applications have in common: what they ask for, and what they say. */
import type { Client } from "../../../client-sdk/index.ts";
import type { ChannelState, LiveResult, ShapeState, TopicState } from "../../../client-sdk/bindings/react.ts";

export interface Order {
  readonly id: number;
  readonly status: string;
}

export interface Database {
  orders: { id: number; status: string };
}

export interface Mounted {
  /** Only orders from this id on. */
  setLeast(id: number): void;
  unmount(): void;
}

export type Mount = (client: Client<Database>, target: HTMLElement) => Mounted;

export const bySql = "SELECT id, status FROM orders WHERE id >= $1 ORDER BY id";

export function line(status: string, shape: ShapeState["status"], live: LiveResult<Order>): string {
  const orders = live.rows.map(({ id, status }) => `${id} ${status}`);
  return [status, shape, live.status, orders.join()].join(" | ");
}

/** What listeners were called with. */
const heard: unknown[] = [];
Object.assign(globalThis, { heard });

export const onMessage = ({ payload }: { readonly payload: string }): void => void heard.push(payload);
export const onChange = ({ type, row }: { readonly type: string; readonly row: Order | undefined }): void =>
  void heard.push(`${type} ${row?.id}`);

export function told(topic: TopicState<string>, channel: ChannelState): string {
  return `${topic.status}: ${topic.messages.map(({ payload }) => payload).join()} | ${channel.status}`;
}
