/** What anything that has EventSource gets: current states, and what happens to them. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { get, type IncomingMessage } from "node:http";
import { after, before, describe, test } from "node:test";
import { type Auth, jwt, sql } from "../../engine/index.ts";
import { SignJWT } from "jose";
import { until } from "../support/until.ts";
import { EventReader, type ReadEvent } from "./event-reader.ts";
import { type Running, running } from "../sockets/running.ts";

const setup = `
  create table items (id int primary key, name text, price numeric(12, 2), big bigint, done boolean, tags text[], doc jsonb);
  create table lines (doc text, n int, note text, primary key (n, doc));
  create table pages (id int primary key, body text);
  alter table pages alter column body set storage external;
  insert into items values (1, 'Ada', 9.50, 9007199254740993, true, '{a,NULL,"b c"}', '{"a": [1]}'), (2, 'Bob', null, null, false, '{}', null);
  insert into lines values ('a/b', 1, 'slash'), ('c', 2, 'plain');
`;

const ada = {
  id: 1,
  name: "Ada",
  price: "9.50",
  big: "9007199254740993",
  done: true,
  tags: ["a", null, "b c"],
  doc: { a: [1] },
};
const bob = { id: 2, name: "Bob", price: null, big: null, done: false, tags: [], doc: null };

describe("streams of current states", () => {
  let server: Running;
  before(async () => void (server = await running({ heartbeatMs: 50 }, setup)));
  after(() => server.close());

  const open = (path: string, headers?: Record<string, string>): Promise<EventReader> =>
    EventReader.open(`${server.engine.url}/v1/watch/${path}`, headers);

  test("all rows come first, then each commit whole, and all rows again to whoever comes back", async () => {
    const reader = await open("items");
    const first = await reader.next();
    assert.deepEqual([first.event, first.data], ["state", [ada, bob]]);
    await server.transaction(
      "insert into items (id, name) values (3, 'Eve')",
      "update items set name = 'Bo' where id = 2",
      "delete from items where id = 1",
      "update items set name = 'twice' where id = 3",
    );
    const commit = await reader.upTo("commit");
    const eve = { id: 3, name: "twice", price: null, big: null, done: null, tags: null, doc: null };
    assert.deepEqual(told(commit), [
      ["insert", eve],
      ["update", { ...bob, name: "Bo" }],
      ["delete", ada],
      ["commit", { position: commit[0]!.id, rows: 3 }],
    ]);
    assert.equal(new Set(commit.map(({ id }) => id)).size, 1);
    reader.close();
    const again = await open("items", { "last-event-id": commit[0]!.id! });
    assert.deepEqual((await again.next()).data, [{ ...bob, name: "Bo" }, eve]);
    again.close();
    await server.transaction(
      "delete from items",
      "insert into items select * from jsonb_populate_recordset(null::items, '[]')",
    );
    await server.db.query(
      "insert into items values (1, 'Ada', 9.50, 9007199254740993, true, '{a,NULL,\"b c\"}', '{\"a\": [1]}'), (2, 'Bob', null, null, false, '{}', null)",
    );
  });

  test("nothing is buffered or kept on the way, and silence is filled with comments", async () => {
    const reader = await open("items");
    const { headers } = reader.response;
    assert.equal(headers.get("content-type"), "text/event-stream; charset=utf-8");
    assert.equal(headers.get("cache-control"), "no-cache, no-transform");
    assert.equal(headers.get("x-accel-buffering"), "no");
    await until(() => reader.comments >= 2);
    reader.close();
  });

  test("a predicate, its parameters and columns are those of a shape", async () => {
    const query = new URLSearchParams({ where: "name = ANY($1)", params: '[["Ada","Zoe"]]', columns: "id,name" });
    const reader = await open(`items?${query}`);
    assert.deepEqual((await reader.next()).data, [{ id: 1, name: "Ada" }]);
    await server.transaction("update items set name = 'Zoe' where id = 2");
    assert.deepEqual(told(await reader.upTo("commit")).slice(0, -1), [["insert", { id: 2, name: "Zoe" }]]);
    await server.transaction("update items set name = 'Bob' where id = 2");
    assert.deepEqual(told(await reader.upTo("commit")).slice(0, -1), [["delete", { id: 2, name: "Zoe" }]]);
    reader.close();
  });

  test("one row is told as it is, or as null, again on every change", async () => {
    const reader = await open("items/7");
    assert.deepEqual(told([await reader.next()]), [["state", null]]);
    await server.transaction("insert into items (id, name) values (7, 'Kim')");
    assert.equal(((await reader.next()).data as { name: string }).name, "Kim");
    await server.transaction("update items set id = 8 where id = 7");
    assert.deepEqual(told([await reader.next()]), [["state", null]]);
    await server.transaction("delete from items where id = 8");
    reader.close();
  });

  test("several rows are told together, those of a compound key too", async () => {
    const reader = await open("items?key=2&key=9&columns=id,name");
    assert.deepEqual((await reader.next()).data, [{ id: 2, name: "Bob" }, null]);
    const lines = await open("lines?key=1/a%252Fb&key=2/c");
    assert.deepEqual((await lines.next()).data, [
      { doc: "a/b", n: 1, note: "slash" },
      { doc: "c", n: 2, note: "plain" },
    ]);
    const one = await open("lines/1/a%2Fb");
    assert.deepEqual((await one.next()).data, { doc: "a/b", n: 1, note: "slash" });
    await server.transaction("update lines set note = upper(note)");
    const notes = ((await lines.next()).data as { note: string }[]).map(({ note }) => note);
    assert.deepEqual(notes, ["SLASH", "PLAIN"]);
    for (const each of [reader, lines, one]) each.close();
  });

  test("those who watch the same share it, and nothing is left when they are gone", async () => {
    await until(() => server.engine.stats().watches === 0 && server.engine.stats().connections === 0);
    const before = server.engine.stats();
    const readers = await Promise.all(Array.from({ length: 20 }, () => open("items/1")));
    await Promise.all(readers.map((reader) => reader.next()));
    const { watches, shapes, connections } = server.engine.stats();
    assert.deepEqual([watches, shapes, connections], [1, before.shapes + 1, before.connections + 20]);
    for (const reader of readers) reader.close();
    await until(() => server.engine.stats().connections === before.connections);
    assert.deepEqual([server.engine.stats().watches, server.engine.stats().shapes], [0, before.shapes]);
  });

  test("a table with another form is told as it is then", async () => {
    const reader = await open("lines?columns=n,doc,note");
    const all = await open("lines");
    await Promise.all([reader.next(), all.next()]);
    await server.transaction(
      "alter table lines add column extra int default 5",
      "insert into lines values ('d', 3, 'new', 6)",
    );
    await until(() => JSON.stringify(all.events.at(-1)!.data).includes('"extra":6'));
    await server.transaction("alter table lines alter column n type bigint");
    const isText = (row: unknown): boolean => typeof (row as { n: unknown }).n === "string";
    await until(() => (all.events.at(-1)!.data as unknown[]).some?.(isText) ?? false);
    assert.equal((all.events.at(-1)!.data as unknown[]).length, 3);
    reader.close();
    all.close();
  });

  test("what is not served, and what cannot be read, is refused before the stream begins", async () => {
    for (const [path, status, code] of [
      ["nothing", 404, "unknown_table"],
      ["items?where=id%20%3D", 400, "where_syntax"],
      ["items?wehre=id", 400, "malformed_message"],
      ["items?token=abc", 400, "malformed_message"],
      ["items?params=5&where=true", 400, "malformed_message"],
      ["items?columns=name", 400, "columns_without_key"],
      ["items/1/2", 400, "malformed_message"],
      ["items/one", 400, "where_type"],
      ["items/", 400, "where_type"],
      ["items?key=1&where=true", 400, "malformed_message"],
      ["%ff", 400, "malformed_message"],
      ["", 404, "unknown_table"],
    ] as const) {
      const { response } = await open(path);
      const answer = (await response.json()) as { code: string };
      assert.deepEqual([path, response.status, answer.code], [path, status, code]);
    }
  });

  test("a reader that does not read holds nothing up, costs no more than what is there, and is told that when it reads on", async () => {
    const body = "x".repeat(1_000);
    await server.transaction(`insert into pages select i, '${body}' from generate_series(1, 1000) i`);
    const asked = get(`${server.engine.url}/v1/watch/pages`, { agent: false });
    const [slow] = (await once(asked, "response")) as [IncomingMessage];
    const quick = await open("pages?where=id%3D1");
    await quick.next();
    await until(() => server.engine.stats().watches === 2);
    for (let n = 1; n <= 20; n++) await server.transaction(`update pages set body = repeat('${n % 10}', 1000)`);
    await server.transaction("update pages set body = 'last'");
    await until(() => JSON.stringify(quick.events).includes("last"));
    let text = "";
    slow.on("data", (chunk) => (text += String(chunk)));
    await until(() => text.slice(text.lastIndexOf("event: state")).split('"body":"last"').length > 1_000);
    // Of 21 MB that happened at most what the kernel and the budget had room for.
    const commits = text.split("event: commit").length - 1;
    assert.ok(commits < 15, `expected few of the commits to have been sent, found ${commits}`);
    slow.destroy();
    quick.close();
    await until(() => server.engine.stats().watches === 0);
  });
});

const secret = "a-secret-of-at-least-thirty-two-bytes";

describe("streams of current states, by rights", () => {
  let server: Running;
  const config = {
    tables: {
      items: {
        read: ({ claims }: Auth) => (claims["sub"] === "nobody" ? false : sql`name = ${String(claims["sub"])}`),
      },
    },
    auth: jwt({ secret }),
    origins: ["https://shop.example"],
    tokenCookie: "session",
  };
  before(async () => void (server = await running(config, setup)));
  after(() => server.close());

  const token = (sub: string, lifetime = "1h"): Promise<string> =>
    new SignJWT({ sub })
      .setProtectedHeader({ alg: "HS256" })
      .setExpirationTime(lifetime)
      .sign(new TextEncoder().encode(secret));
  const open = (path: string, headers?: Record<string, string>): Promise<EventReader> =>
    EventReader.open(`${server.engine.url}/v1/watch/${path}`, headers);

  test("each sees what the rule gives, by header or cookie, and nobody anything without", async () => {
    const byHeader = await open("items", { authorization: `Bearer ${await token("Ada")}` });
    const byCookie = await open("items", { cookie: `session=${await token("Bob")}` });
    assert.deepEqual([(await byHeader.next()).data, (await byCookie.next()).data], [[ada], [bob]]);
    await server.transaction("update items set done = not done");
    assert.deepEqual(told(await byHeader.upTo("commit"))[0], ["update", { ...ada, done: false }]);
    assert.deepEqual(told(await byCookie.upTo("commit"))[0], ["update", { ...bob, done: true }]);
    const foreign = await open("items/1", { cookie: `session=${await token("Bob")}` });
    assert.deepEqual(told([await foreign.next()]), [["state", null]]);
    const nobody = await open("items");
    assert.deepEqual(
      [nobody.response.status, ((await nobody.response.json()) as { code: string }).code],
      [401, "unauthenticated"],
    );
    const inUrl = await open(`items?token=${await token("Ada")}`);
    assert.equal(inUrl.response.status, 401);
    for (const one of [byHeader, byCookie, foreign]) one.close();
  });

  test("a durable stream has what the rule gives, and an offset is for whom it was given", async () => {
    const read = async (query: string, sub?: string): Promise<Response> => {
      const headers: Record<string, string> = sub === undefined ? {} : { authorization: `Bearer ${await token(sub)}` };
      return fetch(`${server.engine.url}/v1/stream/items?${query}`, { headers });
    };
    const names = async (response: Response): Promise<string[]> =>
      ((await response.json()) as { value: { name: string } }[]).map(({ value }) => value.name);
    const first = await read("offset=-1", "Ada");
    const offset = first.headers.get("stream-next-offset");
    assert.deepEqual(await names(first), ["Ada"]);
    await server.transaction("update items set done = not done");
    assert.deepEqual(await names(await read(`offset=${offset}&live=long-poll`, "Ada")), ["Ada"]);
    for (const query of ["offset=-1", "offset=now", `offset=${offset}`])
      assert.deepEqual([(await read(query)).status, (await read(query, "nobody")).status], [401, 403]);
    assert.equal((await read(`offset=${offset}`, "Bob")).status, 410);
    assert.equal((await open("items", { authorization: `Bearer ${await token("nobody")}` })).response.status, 403);
  });

  test("pages of other origins are refused, and those that the config names may send cookies", async () => {
    const cookie = `session=${await token("Ada")}`;
    const refused = await open("items", { cookie, origin: "https://evil.example" });
    assert.deepEqual(
      [refused.response.status, refused.response.headers.get("access-control-allow-origin")],
      [403, null],
    );
    const silent = await open("items", { cookie, "sec-fetch-site": "cross-site" });
    assert.equal(silent.response.status, 403);
    const allowed = await open("items", { cookie, origin: "https://shop.example" });
    assert.equal(allowed.response.headers.get("access-control-allow-origin"), "https://shop.example");
    assert.equal(allowed.response.headers.get("access-control-allow-credentials"), "true");
    allowed.close();
  });

  test("a stream ends when its token does, and says so", async () => {
    // Counted in whole seconds, from the last one on: one might be over before the stream begins, which is refused then.
    const reader = await open("items", { authorization: `Bearer ${await token("Ada", "3s")}` });
    const closed = (await reader.upTo("closed")).at(-1);
    assert.equal((closed!.data as { code: string }).code, "token_expired");
    await until(() => reader.isOver);
  });

  test("no path leads around the rules", async () => {
    for (const path of [
      "/v1//watch/items",
      "/v1/watch//items",
      "/V1/watch/items",
      "/v1/%77atch/items",
      "/v1/watch/items/../items",
    ]) {
      const response = await fetch(`${server.engine.url}${path}`, { headers: { accept: "text/event-stream" } });
      assert.ok([401, 404].includes(response.status), `${path}: ${response.status}`);
    }
  });
});

function told(events: readonly ReadEvent[]): [string, unknown][] {
  return events.map(({ event, data }) => [event, data]);
}
