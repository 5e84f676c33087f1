/**
 * `@walcast/client/svelte`: the client as Svelte's stores, which begin with their first subscriber and end with their last.
 *
 *     setClient(client);                                                    // once, in the outermost component
 *
 *     const client = getClient<Database>();
 *     const orders = $derived(liveQuery<Order>(client, "select * from orders where id >= $1", [least]));
 *     {#each $orders.rows as order (order.id)} … {/each}
 */
import { getContext, setContext } from "svelte";
import { type Readable, readable } from "svelte/store";

import type {
  AnyDatabase,
  ChangeEvent,
  ChannelOptions,
  Client,
  ClientStatus,
  Queryable,
  ShapeOptions,
} from "../index.ts";
import {
  type AnyClient,
  channelStore,
  type ChannelState,
  liveStore,
  type LiveResult,
  noProvider,
  shapeStore,
  type ShapeState,
  statusStore,
  type Store,
  type TopicState,
  topicStore,
  type UseTopicOptions,
} from "../stores.ts";

export type { ChannelState, LiveResult, ShapeState, TopicState, UseTopicOptions } from "../stores.ts";

const clientKey = Symbol("walcast");

/** Hands the client to this component and those inside it. The application creates and closes it. */
export function setClient(client: AnyClient): void {
  setContext(clientKey, client);
}

/** The client of the nearest component that has set one. Throws `config_invalid` where there is none. */
export function getClient<Database = AnyDatabase>(): Client<Database> {
  const client = getContext(clientKey);
  if (!client) throw noProvider("a component that calls setClient");
  return client as Client<Database>;
}

/** A live query. In `$derived` it begins anew when a parameter changes. */
export function liveQuery<Row extends object = Record<string, unknown>, Database = AnyDatabase>(
  client: Client<Database>,
  query: Queryable<Database, Row>,
  params: readonly unknown[] = [],
): Readable<LiveResult<Row>> {
  return asReadable(liveStore(() => client.live<Row>(query, params)));
}

/** A declared shape by name, or a shape that is synchronised while somebody subscribes. */
export function shapeState(client: AnyClient, shape: string | ShapeOptions): Readable<ShapeState> {
  return asReadable(shapeStore(client as Client, shape));
}

/** Every change of a table that matches is an event for the listener, while somebody subscribes. */
export function channelState<Row extends object = Record<string, unknown>>(
  client: AnyClient,
  table: string,
  options: ChannelOptions,
  listener: (event: ChangeEvent<Row>) => void,
): Readable<ChannelState> {
  return asReadable(channelStore<Row>(client as Client, table, options, listener));
}

/** A topic's messages, while somebody subscribes. In `$derived` it listens anew when its name or an option changes. */
export function topicState<Payload = unknown>(
  client: AnyClient,
  name: string,
  { onMessage = () => {}, ...options }: UseTopicOptions<Payload> = {},
): Readable<TopicState<Payload>> {
  return asReadable(topicStore<Payload>(client as Client, name, options, onMessage));
}

/** The client's status. */
export function clientStatus(client: AnyClient): Readable<ClientStatus> {
  return asReadable(statusStore(client as Client));
}

/**
 * Begins in a task of its own: while Svelte renders, nothing may change what it has rendered already; and who only looks, as a
 * server does, begins nothing.
 */
function asReadable<State>({ subscribe, snapshot }: Store<State>): Readable<State> {
  return readable(snapshot(), (set) => {
    let stop: (() => void) | undefined;
    let isOver = false;
    queueMicrotask(() => {
      if (isOver) return;
      stop = subscribe(() => set(snapshot()));
      set(snapshot());
    });
    return () => {
      isOver = true;
      stop?.();
    };
  });
}
