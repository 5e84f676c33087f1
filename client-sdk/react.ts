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
import { createContext, createElement, type ReactNode, useContext, useMemo, useSyncExternalStore } from "react";

import {
  type AnyDatabase,
  type Client,
  type ClientStatus,
  type LiveQuery,
  type LiveStatus,
  type Queryable,
  type Shape,
  type ShapeOptions,
  type ShapeProgress,
  type ShapeStatus,
  WalcastError,
} from "./index.ts";

// One context for clients of any database: what is put in with a type comes out with the type that useClient names.
const ClientContext = createContext<unknown>(undefined);

export interface WalcastProviderProps {
  /** A client of any database; created and closed by the application, outside of rendering. */
  readonly client: Pick<Client, "status" | "position" | "inspect" | "close">;
  readonly children?: ReactNode;
}

export function WalcastProvider({ client, children }: WalcastProviderProps): ReactNode {
  return createElement(ClientContext.Provider, { value: client }, children);
}

/** The client of the nearest provider. Throws `config_invalid` where there is none. */
export function useClient<Database = AnyDatabase>(): Client<Database> {
  const client = useContext(ClientContext);
  if (!client)
    throw new WalcastError(
      "config_invalid",
      "use the client: expected a WalcastProvider above this component, found none",
    );
  return client as Client<Database>;
}

export interface LiveResult<Row> {
  /** The same array as long as nothing changed, and unchanged rows stay the same objects. */
  readonly rows: readonly Row[];
  readonly status: LiveStatus;
  readonly error: WalcastError | undefined;
}

const loadingResult: LiveResult<never> = { rows: [], status: "loading", error: undefined };

/**
 * A live query, for as long as the component is mounted. `deps` are the parameters of an SQL text; for a function they
 * are, as in useMemo, what it uses from outside. The query starts anew when one of them changes, and rows stay on
 * screen only with the same query.
 */
export function useLiveQuery<Row extends object = Record<string, unknown>, Database = AnyDatabase>(
  query: Queryable<Database, Row>,
  deps: readonly unknown[] = [],
): LiveResult<Row> {
  const client = useClient<Database>();
  // A function is new in every render: only its deps tell whether it means something else.
  const identity = typeof query === "string" ? query : "function";
  const store = useMemo(
    () => new LiveStore<Row>(() => client.live<Row>(query, typeof query === "string" ? deps : [])),
    [client, identity, ...deps.map(comparable)],
  );
  return useSyncExternalStore(store.subscribe, store.snapshot, serverResult);
}

export interface ShapeState {
  readonly status: ShapeStatus;
  readonly progress: ShapeProgress;
  readonly error: WalcastError | undefined;
}

const loadingShape: ShapeState = {
  status: "loading",
  progress: { rows: 0, bytes: 0, estimatedRows: 0 },
  error: undefined,
};

/** A declared shape by name, or a shape that is synchronised for as long as the component is mounted. */
export function useShape(shape: string | ShapeOptions): ShapeState {
  const client = useClient();
  const store = useMemo(() => new ShapeStore(client, shape), [client, comparable(shape)]);
  return useSyncExternalStore(store.subscribe, store.snapshot, serverShape);
}

/** The client's status. */
export function useStatus(): ClientStatus {
  const client = useClient();
  return useSyncExternalStore(
    useMemo(() => (listener: () => void) => client.onStatus(listener), [client]),
    () => client.status,
    serverStatus,
  );
}

function serverResult(): LiveResult<never> {
  return loadingResult;
}

function serverShape(): ShapeState {
  return loadingShape;
}

function serverStatus(): ClientStatus {
  return "connecting";
}

/** Starts with the first subscriber and ends with the last. */
class LiveStore<Row> {
  private readonly start: () => LiveQuery<Row>;
  private live: LiveQuery<Row> | undefined;
  private subscribers = 0;
  private result: LiveResult<Row> = loadingResult;

  constructor(start: () => LiveQuery<Row>) {
    this.start = start;
  }

  readonly snapshot = (): LiveResult<Row> => this.result;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.subscribers++;
    this.live ??= this.start();
    const { live } = this;
    const stop = live.onChange(() => {
      this.take(live);
      listener();
    });
    return () => {
      stop();
      if (--this.subscribers === 0) this.end();
    };
  };

  private take({ rows, status, error }: LiveQuery<Row>): void {
    const { result } = this;
    if (result.rows !== rows || result.status !== status || result.error !== error)
      this.result = { rows, status, error };
  }

  private end(): void {
    this.live?.close();
    this.live = undefined;
  }
}

class ShapeStore {
  private readonly client: Client;
  private readonly wanted: string | ShapeOptions;
  private shape: Shape | undefined;
  private subscribers = 0;
  private state: ShapeState = loadingShape;

  constructor(client: Client, wanted: string | ShapeOptions) {
    this.client = client;
    this.wanted = wanted;
    if (typeof wanted === "string") this.take(this.declared(wanted));
  }

  readonly snapshot = (): ShapeState => this.state;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.subscribers++;
    this.shape ??= typeof this.wanted === "string" ? this.declared(this.wanted) : this.client.sync(this.wanted);
    const { shape } = this;
    const changed = (): void => {
      this.take(shape);
      listener();
    };
    this.take(shape);
    const stops = [shape.on("status", changed), shape.on("progress", changed)];
    return () => {
      for (const stop of stops) stop();
      if (--this.subscribers === 0) this.end();
    };
  };

  private declared(name: string): Shape {
    const shape = (this.client.shapes as Readonly<Record<string, Shape | undefined>>)[name];
    if (!shape)
      throw new WalcastError(
        "config_invalid",
        `use a shape: expected one that the client declares, found ${JSON.stringify(name)}`,
      );
    return shape;
  }

  private take({ status, progress, error }: Shape): void {
    const { state } = this;
    if (state.status !== status || state.progress !== progress || state.error !== error)
      this.state = { status, progress, error };
  }

  private end(): void {
    if (typeof this.wanted !== "string") this.shape?.unsubscribe().catch(() => {});
    this.shape = undefined;
  }
}

/** Objects and arrays written in place are new in every render; what they say is what counts. */
function comparable(value: unknown): unknown {
  return typeof value === "object" && value !== null
    ? JSON.stringify(value, (_key, inner: unknown) => (typeof inner === "bigint" ? `${inner}n` : inner))
    : value;
}
