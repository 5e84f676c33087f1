/**
 * `@walcast/client/react`: the client in components. Everything reads through useSyncExternalStore, so what is rendered
 * together belongs together; nothing starts before a component is mounted, so a render that is thrown away, StrictMode's
 * second one included, leaves nothing behind. On the server, queries are `loading` and have no rows.
 *
 *     <WalcastProvider client={client}><Orders /></WalcastProvider>
 *
 *     function Orders() {
 *       const { rows, status } = useLiveQuery<Order>("select * from orders order by id", []);
 *       …
 *     }
 */
import {
  createContext,
  createElement,
  type ReactNode,
  useContext,
  useLayoutEffect,
  useMemo,
  useRef,
  useState,
  useSyncExternalStore,
} from "react";

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
  comparable,
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
import { begin, type Begun } from "./suspense.ts";

export type { ChannelState, LiveResult, ShapeState, TopicState, UseTopicOptions } from "../stores.ts";

// One context for clients of any database: what is put in with a type comes out with the type that useClient names.
const ClientContext = createContext<unknown>(undefined);

export interface WalcastProviderProps {
  /** A client of any database; created and closed by the application, outside of rendering. */
  readonly client: AnyClient;
  readonly children?: ReactNode;
}

export function WalcastProvider({ client, children }: WalcastProviderProps): ReactNode {
  return createElement(ClientContext.Provider, { value: client }, children);
}

/** The client of the nearest provider. Throws `config_invalid` where there is none. */
export function useClient<Database = AnyDatabase>(): Client<Database> {
  const client = useContext(ClientContext);
  if (!client) throw noProvider("a WalcastProvider");
  return client as Client<Database>;
}

export interface LiveQueryOptions<Row = object> {
  /**
   * Rows to show until the first result is complete, as long as the query is the one of the first render: those of a seed
   * (`rowsOfSeed`), on the server, at hydration and afterwards. The status is `loading` meanwhile, and nothing suspends.
   */
  readonly initial?: readonly Row[];
  /**
   * Suspend until the first result is complete, and throw the error to the nearest error boundary. The query begins with the
   * first render then, and is shared by components that ask for the same; its shapes are to be there before. Default false. On the server nothing suspends.
   */
  readonly suspense?: boolean;
}

/**
 * A live query, for as long as the component is mounted. `deps` are the parameters of an SQL text; for a function they
 * are, as in useMemo, what it uses from outside. The query starts anew when one of them changes, and rows stay on
 * screen only with the same query.
 */
export function useLiveQuery<Row extends object = Record<string, unknown>, Database = AnyDatabase>(
  query: Queryable<Database, Row>,
  deps: readonly unknown[] = [],
  { initial, suspense = false }: LiveQueryOptions<Row> = {},
): LiveResult<Row> {
  const client = useClient<Database>();
  const waits = suspense && isBrowser && !initial;
  // A function is new in every render: only its deps tell whether it means something else.
  const identity = typeof query === "string" ? query : "function";
  const begun = useMemo(() => {
    const params = typeof query === "string" ? deps : [];
    return waits ? begin(client, query, params) : { store: liveStore(() => client.live<Row>(query, params)) };
  }, [client, identity, waits, ...deps.map(comparable)]);
  if ("settled" in begun) wait(begun);
  const key = comparable([identity, ...deps]);
  const [first] = useState(() => ({ key, result: initial ? { ...loadingResult, rows: initial } : loadingResult }));
  const result = useStore<LiveResult<Row>>(begun.store, first.result);
  const hasNothing = result.status === "loading" && result.rows.length === 0;
  return hasNothing && key === first.key ? first.result : result;
}

/** A declared shape by name, or a shape that is synchronised for as long as the component is mounted. */
export function useShape(shape: string | ShapeOptions): ShapeState {
  const client = useClient();
  return useStore(
    useMemo(() => shapeStore(client, shape), [client, comparable(shape)]),
    loadingShape,
  );
}

/**
 * Every change of a table that matches is an event for the listener, whichever the last render gave, while the component
 * is mounted. Nothing is rendered for an event by itself.
 */
export function useChannel<Row extends object = Record<string, unknown>>(
  table: string,
  options: ChannelOptions,
  listener: (event: ChangeEvent<Row>) => void,
): ChannelState {
  const client = useClient();
  const latest = useRef(listener);
  useCommitEffect(() => void (latest.current = listener));
  const store = useMemo(
    // Read when an event comes, not while rendering.
    // oxlint-disable-next-line react/refs
    () => channelStore<Row>(client, table, options, (event) => latest.current(event)),
    [client, table, comparable(options)],
  );
  return useStore(store, joiningChannel);
}

/**
 * A topic's messages, for as long as the component is mounted. It listens anew when its name or an option changes. Of `onMessage` the
 * last render's is called.
 */
export function useTopic<Payload = unknown>(
  name: string,
  { onMessage, ...options }: UseTopicOptions<Payload> = {},
): TopicState<Payload> {
  const client = useClient();
  const latest = useRef(onMessage);
  useCommitEffect(() => void (latest.current = onMessage));
  const store = useMemo(
    // Read when a message comes, not while rendering.
    // oxlint-disable-next-line react/refs
    () => topicStore<Payload>(client, name, options, (message) => latest.current?.(message)),
    [client, name, comparable(options)],
  );
  return useStore<TopicState<Payload>>(store, silentTopic);
}

/** The client's status. */
export function useStatus(): ClientStatus {
  const client = useClient();
  return useStore<ClientStatus>(
    useMemo(() => statusStore(client), [client]),
    "connecting",
  );
}

const isBrowser = typeof document !== "undefined";

/** React warns of layout effects on a server, where no effect runs. */
const useCommitEffect = isBrowser ? useLayoutEffect : (): void => {};

function useStore<State>({ subscribe, snapshot }: Store<State>, onServer: State): State {
  return useSyncExternalStore(subscribe, snapshot, () => onServer);
}

/** To suspend is to throw a promise; `use`, which says the same, is not in React 18. */
function wait<Row>({ store, settled, isSettled }: Begun<Row>): void {
  const { status, error } = store.snapshot();
  if (status === "error") throw error;
  // oxlint-disable-next-line typescript/only-throw-error
  if (status === "loading" && !isSettled) throw settled;
}
