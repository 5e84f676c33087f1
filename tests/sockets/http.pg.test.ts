/** The plain HTTP side: health, metrics, files, and the app's own routes. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { until } from "../support/until.ts";
import { type Running, running } from "./running.ts";

describe("over HTTP", () => {
  let server: Running;
  let directory: string;
  const requests: Request[] = [];
  const aborted = Promise.withResolvers<void>();
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "walcast-files-"));
    await mkdir(join(directory, "public", "assets"), { recursive: true });
    await writeFile(join(directory, "secret.txt"), "secret");
    await writeFile(join(directory, "public", "index.html"), "<p>home");
    await writeFile(join(directory, "public", "assets", "a-1234.js"), "1;");
    server = await running(
      { staticDir: join(directory, "public"), app, limits: { messageBytes: 1000 } },
      "create table items (id int primary key)",
    );
  });
  after(async () => {
    await server.close();
    await rm(directory, { recursive: true, force: true });
  });

  async function app(given: Request): Promise<Response> {
    requests.push(given);
    const { pathname } = new URL(given.url);
    if (pathname === "/echo")
      return new Response(await given.arrayBuffer(), { status: 201, headers: { "X-Method": given.method } });
    if (pathname === "/cookies")
      return new Response("", {
        headers: [
          ["Set-Cookie", "a=1"],
          ["Set-Cookie", "b=2"],
        ],
      });
    if (pathname === "/sized") return new Response("four", { headers: { "Content-Length": "4" } });
    if (pathname === "/nothing") return new Response(null, { status: 204 });
    if (pathname === "/fails") throw new Error("a secret of the app");
    if (pathname === "/waits")
      return new Promise(() => given.signal.addEventListener("abort", () => aborted.resolve()));
    return new Response("no such page", { status: 404 });
  }

  /** With the path as it is: fetch() would tidy it up. */
  async function get(
    path: string,
    method = "GET",
    body?: string,
    host?: string,
  ): Promise<{ status: number; text: string; headers: NodeJS.Dict<string | string[]> }> {
    const { port } = new URL(server.engine.url);
    const sent = request({
      port,
      path,
      method,
      agent: false,
      headers: {
        ...(body === undefined ? {} : { "Content-Length": Buffer.byteLength(body) }),
        ...(host === undefined ? {} : { Host: host }),
      },
    });
    sent.end(body);
    const [response] = (await once(sent, "response")) as [import("node:http").IncomingMessage];
    let text = "";
    for await (const chunk of response) text += String(chunk);
    return { status: response.statusCode!, text, headers: response.headers };
  }

  test("a file that was deleted after the start is not found, and the server goes on", async () => {
    const file = join(directory, "public", "gone.txt");
    await writeFile(file, "soon gone");
    const other = await running({ staticDir: join(directory, "public") }, "create table items (id int primary key)");
    await rm(file);
    const response = await fetch(`${other.engine.url}/gone.txt`);
    const home = await fetch(other.engine.url);
    await other.close();
    assert.deepEqual([response.status, home.status], [404, 200]);
  });

  test("health tells the position of the last commit", async () => {
    const client = await server.greeted();
    await client.load(1, { table: "items" });
    await server.transaction("insert into items values (1)");
    const frame = await client.frame((one) => one.kind === "commits");
    const { status, text } = await get("/health");
    const health = JSON.parse(text) as { status: string; position: string; lagBytes: number };
    assert.deepEqual([status, health.status, typeof health.lagBytes], [200, "live", "number"]);
    assert.equal(server.engine.health().position, health.position);
    assert.ok(BigInt(`0x${health.position.split("/")[1]}`) >= (frame.position & 0xffffffffn));
    await client.close();
  });

  test("metrics are lines of a name and a number, and count what there is", async () => {
    const client = await server.greeted();
    await client.load(1, { table: "items" });
    await client.load(2, { table: "items", where: "id <> 5" });
    const { status, text, headers } = await get("/metrics");
    assert.equal(status, 200);
    assert.match(String(headers["content-type"]), /^text\/plain; version=0\.0\.4/);
    for (const line of text.split("\n").filter((one) => one !== ""))
      assert.match(line, /^(# (HELP|TYPE) walcast_|walcast_[a-z_]+(\{[a-z]+="[a-z_.0-9]+"\})? \d+(\.\d+)?(e-\d+)?$)/);
    assert.match(text, /^walcast_up 1$/m);
    assert.match(text, /^walcast_clients\{state="live"\} [1-9]/m);
    assert.match(text, /^walcast_shapes 2$/m);
    assert.match(text, /^walcast_predicates_unindexed 1$/m);
    assert.match(text, /^walcast_resyncs_total\{cause="schema_changed"\} 0$/m);
    await server.transaction("alter table items alter column id type bigint");
    await client.control("resync");
    assert.match((await get("/metrics")).text, /^walcast_resyncs_total\{cause="schema_changed"\} [12]$/m);
    // Measured once a second, and a slot always keeps some.
    await until(async () => /^walcast_slot_retained_bytes [1-9]/m.test((await get("/metrics")).text));
    await client.close();
  });

  test("docs/operations.md explains every figure that is served, and no other", async () => {
    const { text } = await get("/metrics");
    const served = [...text.matchAll(/^# TYPE walcast_(\w+) /gm)].map(([, name]) => name!);
    const page = await readFile(new URL("../../docs/operations.md", import.meta.url), "utf8");
    const table = page.slice(page.indexOf("| metric |"), page.indexOf("## Knobs"));
    const cells = [...table.matchAll(/^\| (`.*?`) \|/gm)].map(([, cell]) => cell!);
    const explained = cells.flatMap((cell) => [...cell.matchAll(/`(\w+)/g)].map(([, name]) => name!));
    assert.deepEqual(explained.toSorted(), served.toSorted());
  });

  test("files are served with their type, and as long as their name says", async () => {
    const home = await get("/");
    assert.deepEqual(
      [home.status, home.text, home.headers["content-type"], home.headers["cache-control"]],
      [200, "<p>home", "text/html; charset=utf-8", "no-cache"],
    );
    assert.equal((await get("/index.html")).text, "<p>home");
    const asset = await get("/assets/a-1234.js");
    assert.deepEqual([asset.status, asset.headers["content-type"]], [200, "text/javascript; charset=utf-8"]);
    assert.match(String(asset.headers["cache-control"]), /immutable/);
  });

  for (const path of [
    "/../secret.txt",
    "/assets/../../secret.txt",
    "/%2e%2e/secret.txt",
    "/..%2fsecret.txt",
    "//secret.txt",
    "/assets/..\\..\\secret.txt",
    "/.../secret.txt",
    "/assets/%00",
    "/assets",
    "/__proto__",
  ]) {
    test(`${path} leads to no file`, async () => {
      const { status, text } = await get(path);
      assert.deepEqual([status, text], [404, "no such page"]);
    });
  }

  for (const path of ["/v1//sync", "/v1/%73ync", "/v1/sync/", "//v1/sync"]) {
    test(`${path} opens no socket`, async () => {
      const sent = request({
        port: new URL(server.engine.url).port,
        path,
        agent: false,
        headers: {
          Connection: "Upgrade",
          Upgrade: "websocket",
          "Sec-WebSocket-Version": "13",
          "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        },
      });
      sent.end();
      const [response] = (await Promise.race([once(sent, "response"), once(sent, "upgrade")])) as [
        import("node:http").IncomingMessage,
      ];
      response.destroy();
      assert.equal(response.statusCode, 404);
    });
  }

  test("the app gets the method, the query, the headers and the body", async () => {
    const { status, text, headers } = await get("/echo?a=1", "POST", "a body");
    assert.deepEqual([status, text, headers["x-method"]], [201, "a body", "POST"]);
    assert.equal(new URL(requests.at(-1)!.url).search, "?a=1");
    assert.equal((await get("/echo", "DELETE")).headers["x-method"], "DELETE");
  });

  test("a body of the largest size reaches the app, and one byte more is refused before it does", async () => {
    assert.equal((await get("/echo", "POST", "x".repeat(1000))).text.length, 1000);
    const calls = requests.length;
    assert.equal((await get("/echo", "POST", "x".repeat(1001))).status, 413);
    assert.equal(requests.length, calls);
  });

  test("several cookies stay several, and a length is told once", async () => {
    assert.deepEqual((await get("/cookies")).headers["set-cookie"], ["a=1", "b=2"]);
    const { text, headers } = await get("/sized");
    assert.deepEqual([text, headers["content-length"]], ["four", "4"]);
    const nothing = await get("/nothing");
    assert.deepEqual([nothing.status, nothing.text], [204, ""]);
  });

  test("what is no request of the web reaches no app, and is nobody's failure", async () => {
    const calls = requests.length;
    assert.equal((await get("/echo", "TRACE")).status, 400);
    assert.equal((await get("/echo", "GET", undefined, "a b")).status, 400);
    assert.equal(requests.length, calls);
  });

  test("an app that fails is a 500 without its message, and the engine goes on", async () => {
    const { status, text } = await get("/fails");
    assert.equal(status, 500);
    assert.equal(text.includes("secret"), false);
    assert.equal((await get("/health")).status, 200);
  });

  test("a request that is given up is told to the app", async () => {
    const sent = request({ port: new URL(server.engine.url).port, path: "/waits", agent: false });
    sent.on("error", () => {});
    const calls = requests.length;
    sent.end();
    await until(() => requests.length > calls);
    sent.destroy();
    await aborted.promise;
    assert.equal((await get("/health")).status, 200);
  });
});
