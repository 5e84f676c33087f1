/** `engine.watch`: the current result of a query, to a program that runs the engine. */
import type { Auth } from "../authenticate.ts";
import { WalcastError } from "../errors.ts";
import { selectSql } from "../shapes/shape.ts";
import type { Asker } from "../sockets/access.ts";
import { type Follow, states, type StatesOptions } from "./iteration.ts";
import type { Queries } from "./queries.ts";
import {
  type AnyQuery,
  isTableQuery,
  ordered,
  type Rows,
  type Statement,
  statementOf,
  type TableQuery,
} from "./query.ts";
import { resultAt } from "./results.ts";
import type { Row } from "./rows.ts";
import type { Watch } from "./watch.ts";
import type { Rights, Watches } from "./watches.ts";

export interface WatchOptions extends StatesOptions {
  /** Whose rights count, for the rows of a table: the config's rule is applied to this token. Default: the server's own, all of any table. */
  readonly auth?: Auth | undefined;
}

interface Services {
  readonly watches: Watches;
  readonly queries: Queries;
}

/** `services`: known once the engine has started. */
export function watchQuery<R>(
  services: Services,
  query: TableQuery | AnyQuery,
  { auth, ...options }: WatchOptions,
): AsyncIterable<Rows<R>> {
  return states(followOf(services, query, auth), options) as AsyncIterable<Rows<R>>;
}

function followOf(
  { watches, queries }: Services,
  query: TableQuery | AnyQuery,
  auth: Auth | undefined,
): Follow<Rows<unknown>> {
  const rights = auth ?? "server";
  if (!isTableQuery(query)) {
    if (auth)
      throw new WalcastError("forbidden", "watch: expected a table where rights are given, as no rule applies to SQL");
    const statement = statementOf(query);
    return (changed, signal) => queries.follow(() => statement, changed, signal);
  }
  if (query.orderBy === undefined && query.limit === undefined) return followTable(watches, query, rights);
  return (changed, signal) => {
    const asker = watches.asker(signal);
    return queries.follow(() => orderedStatement(watches, query, rights, asker), changed, signal);
  };
}

function followTable(watches: Watches, query: TableQuery, rights: Rights): Follow<Rows<unknown>> {
  return (changed, signal) => {
    const take = (watch: Watch): void => changed(() => (watch.isOver ? undefined : resultOf(watch)));
    return watches.follow([query], rights, { onState: take, onCommit: take }, signal, watches.asker(signal));
  };
}

async function orderedStatement(watches: Watches, query: TableQuery, rights: Rights, asker: Asker): Promise<Statement> {
  const shape = await watches.resolve(query, rights, asker);
  return { text: ordered(selectSql(shape), query), values: [] };
}

function resultOf(watch: Watch): Rows<unknown> {
  const asJson = watch.asJson(0);
  return resultAt(
    Array.from(watch.rows(0), (row) => objectOf(row, asJson)),
    watch.position,
  );
}

/** The same object as long as its row is the same. */
function objectOf(row: Row, asJson: (row: Row) => string): unknown {
  let known = objects.get(row);
  if (known === undefined) objects.set(row, (known = JSON.parse(asJson(row)) as object));
  return known;
}

const objects = new WeakMap<Row, object>();
