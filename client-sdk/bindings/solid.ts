/**
 * `@walcast/client/solid`: the client in components. What is live begins when a component is mounted and ends with its
 * owner; on a server everything is `loading`. Unchanged rows stay the same objects, so `<For>` touches only what changed.
 *
 *     <WalcastProvider client={client}><Orders /></WalcastProvider>
 *
 *     const orders = useLiveQuery<Order>("select * from orders where id >= $1", () => [least()]);
 *     <For each={orders().rows}>{(order) => <li>{order.status}</li>}</For>
 */
import {
  type Accessor,
  createComponent,
  createContext,
  createEffect,
  createSignal,
  type JSX,
  onCleanup,
  useContext,
} from "solid-js";

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
  joiningChannel,
  liveStore,
  loadingResult,
  loadingShape,
  type LiveResult,
  noProvider,
  shapeStore,
  type ShapeState,
  silentTopic,
  statusStore,
  type Store,
  type TopicState,
  topicStore,
  type UseTopicOptions,
} from "../stores.ts";

export type { ChannelState, LiveResult, ShapeState, TopicState, UseTopicOptions } from "../stores.ts";

const ClientContext = createContext<unknown>();

export interface WalcastProviderProps {
  /** A client of any database; created and closed by the application. */
  readonly client: AnyClient;
  readonly children?: JSX.Element;
}

export function WalcastProvider(props: WalcastProviderProps): JSX.Element {
  return createComponent(ClientContext.Provider, {
    value: props.client,
    get children() {
      return props.children;
    },
  });
}

/** The client of the nearest provider. Throws `config_invalid` where there is none. */
export function useClient<Database = AnyDatabase>(): Client<Database> {
  const client = useContext(ClientContext);
  if (!client) throw noProvider("a WalcastProvider");
  return client as Client<Database>;
}

/** A live query. It begins anew when its parameters change, or what a function reads of signals. */
export function useLiveQuery<Row extends object = Record<string, unknown>, Database = AnyDatabase>(
  query: Queryable<Database, Row>,
  params: Accessor<readonly unknown[]> = () => [],
): Accessor<LiveResult<Row>> {
  const client = useClient<Database>();
  return useStore<LiveResult<Row>>(loadingResult, () => {
    const values = params();
    return liveStore(() => client.live<Row>(query, values));
  });
}

/** A declared shape by name, or a shape that is synchronised for as long as its owner lives. */
export function useShape(shape: Accessor<string | ShapeOptions>): Accessor<ShapeState> {
  const client = useClient();
  return useStore(loadingShape, () => shapeStore(client, shape()));
}

/** Every change of a table that matches is an event for the listener, as long as its owner lives. */
export function useChannel<Row extends object = Record<string, unknown>>(
  table: Accessor<string>,
  options: Accessor<ChannelOptions>,
  listener: (event: ChangeEvent<Row>) => void,
): Accessor<ChannelState> {
  const client = useClient();
  return useStore(joiningChannel, () => channelStore<Row>(client, table(), options(), listener));
}

/** A topic's messages, as long as its owner lives. It listens anew when its name or an option changes. */
export function useTopic<Payload = unknown>(
  name: Accessor<string>,
  options: Accessor<UseTopicOptions<Payload>> = () => ({}),
): Accessor<TopicState<Payload>> {
  const client = useClient();
  return useStore<TopicState<Payload>>(silentTopic, () => {
    const { onMessage = () => {}, ...rest } = options();
    return topicStore<Payload>(client, name(), rest, onMessage);
  });
}

/** The client's status. */
export function useStatus(): Accessor<ClientStatus> {
  const client = useClient();
  return useStore<ClientStatus>("connecting", () => statusStore(client));
}

/** Follows a store, and another one when what `open` reads is different. */
function useStore<State>(first: State, open: () => Store<State>): Accessor<State> {
  const [state, setState] = createSignal<State>(first);
  createEffect(() => {
    const { subscribe, snapshot } = open();
    const take = (): void => void setState(() => snapshot());
    onCleanup(subscribe(take));
    take();
  });
  return state;
}
