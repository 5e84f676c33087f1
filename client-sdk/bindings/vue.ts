/**
 * `@walcast/client/vue`: the client in components. What is live begins when a component is mounted and ends when it is
 * unmounted; on a server everything is `loading`. Rows are never made reactive themselves: unchanged ones stay the same
 * objects.
 *
 *     createApp(App).use(walcast(client)).mount("#app");
 *
 *     const least = ref(0);
 *     const { rows, status } = useLiveQuery<Order>("select * from orders where id >= $1", () => [least.value]);
 */
import {
  computed,
  type ComputedRef,
  inject,
  type InjectionKey,
  type MaybeRefOrGetter,
  onMounted,
  type Plugin,
  shallowRef,
  type ShallowRef,
  toValue,
  watchEffect,
} from "vue";

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

const clientKey: InjectionKey<unknown> = Symbol("walcast");

/** For `app.use`: hands the client to every component. The application creates and closes it. */
export function walcast(client: AnyClient): Plugin {
  return { install: (app) => void app.provide(clientKey, client) };
}

/** The application's client. Throws `config_invalid` where there is none. */
export function useClient<Database = AnyDatabase>(): Client<Database> {
  const client = inject(clientKey, undefined);
  if (!client) throw noProvider("app.use(walcast(client))");
  return client as Client<Database>;
}

/** Each property of a state as a ref. */
export type Refs<State> = { readonly [Name in keyof State]: ComputedRef<State[Name]> };

/**
 * A live query, for as long as the component is mounted. It begins anew when its parameters change, or what a function reads of
 * refs.
 */
export function useLiveQuery<Row extends object = Record<string, unknown>, Database = AnyDatabase>(
  query: Queryable<Database, Row>,
  params: MaybeRefOrGetter<readonly unknown[]> = [],
): Refs<LiveResult<Row>> {
  const client = useClient<Database>();
  const state = useStore<LiveResult<Row>>(loadingResult, () => {
    const values = toValue(params);
    return liveStore(() => client.live<Row>(query, values));
  });
  return {
    rows: computed(() => state.value.rows),
    status: computed(() => state.value.status),
    error: computed(() => state.value.error),
  };
}

/** A declared shape by name, or a shape that is synchronised for as long as the component is mounted. */
export function useShape(shape: MaybeRefOrGetter<string | ShapeOptions>): Refs<ShapeState> {
  const client = useClient();
  const state = useStore(loadingShape, () => shapeStore(client, toValue(shape)));
  return {
    status: computed(() => state.value.status),
    progress: computed(() => state.value.progress),
    error: computed(() => state.value.error),
  };
}

/** Every change of a table that matches is an event for the listener, while the component is mounted. */
export function useChannel<Row extends object = Record<string, unknown>>(
  table: MaybeRefOrGetter<string>,
  options: MaybeRefOrGetter<ChannelOptions>,
  listener: (event: ChangeEvent<Row>) => void,
): Refs<ChannelState> {
  const client = useClient();
  const state = useStore(joiningChannel, () => channelStore<Row>(client, toValue(table), toValue(options), listener));
  return { status: computed(() => state.value.status), error: computed(() => state.value.error) };
}

/** A topic's messages, for as long as the component is mounted. It listens anew when its name or an option changes. */
export function useTopic<Payload = unknown>(
  name: MaybeRefOrGetter<string>,
  options: MaybeRefOrGetter<UseTopicOptions<Payload>> = {},
): Refs<TopicState<Payload>> {
  const client = useClient();
  const state = useStore<TopicState<Payload>>(silentTopic, () => {
    const { onMessage = () => {}, ...rest } = toValue(options);
    return topicStore<Payload>(client, toValue(name), rest, onMessage);
  });
  return {
    last: computed(() => state.value.last),
    messages: computed(() => state.value.messages),
    status: computed(() => state.value.status),
    error: computed(() => state.value.error),
  };
}

/** The client's status. */
export function useStatus(): Readonly<ShallowRef<ClientStatus>> {
  const client = useClient();
  return useStore<ClientStatus>("connecting", () => statusStore(client));
}

/** Follows a store while the component is mounted, and another one when what `open` reads is different. */
function useStore<State>(first: State, open: () => Store<State>): Readonly<ShallowRef<State>> {
  const state = shallowRef(first);
  onMounted(() =>
    watchEffect((onCleanup) => {
      const { subscribe, snapshot } = open();
      const take = (): void => void (state.value = snapshot());
      onCleanup(subscribe(take));
      take();
    }),
  );
  return state;
}
