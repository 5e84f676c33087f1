/**
 * zero-cache on any free port, with the settings that it comes with, in a process tree of its own; and the endpoint that it asks what a
 * query's name means. Says its port once it serves. Keeps its replica of Postgres in the file, so that a later one goes on from there.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { json } from "node:stream/consumers";
import { setTimeout as delay } from "node:timers/promises";
import { type AnyCustomQuery, mustGetQuery, type ReadonlyJSONValue } from "@rocicorp/zero";
import { handleQueryRequest } from "@rocicorp/zero/server";
import { say, whenDismissed } from "../../processes.ts";
import { type WorkloadName, workloads } from "./schema.ts";

const [url = "", workload = "", file = ""] = process.argv.slice(2);
const { schema, queries } = workloads[workload as WorkloadName];

const endpoint = createServer((request, response) => void answer(request, response)).listen(0, "127.0.0.1");
await once(endpoint, "listening");

// It takes this port and the two behind it.
const port = 30_000 + 4 * Math.floor(Math.random() * 500);
const program = join(import.meta.dirname, "..", "node_modules", "@rocicorp", "zero", "out", "zero", "src", "cli.js");
const cache = spawn(process.execPath, [program], {
  stdio: ["ignore", "ignore", "inherit"],
  env: {
    ...process.env,
    NODE_ENV: "production",
    NODE_OPTIONS: "",
    DO_NOT_TRACK: "1",
    ZERO_UPSTREAM_DB: url,
    ZERO_QUERY_URL: `http://127.0.0.1:${(endpoint.address() as AddressInfo).port}/query`,
    ZERO_REPLICA_FILE: file,
    ZERO_PORT: String(port),
    ZERO_ADMIN_PASSWORD: "bench",
    ZERO_LOG_LEVEL: "error",
  },
});
const ended = once(cache, "exit");
whenDismissed(async () => {
  cache.kill("SIGINT");
  await ended;
});
while (!(await serves())) await delay(50);
say(port);

async function serves(): Promise<boolean> {
  const answer = await fetch(`http://127.0.0.1:${port}/`).catch(() => undefined);
  return answer?.ok ?? false;
}

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const body = (await json(request)) as ReadonlyJSONValue;
  const { searchParams: query } = new URL(request.url!, "http://localhost");
  const handler = (name: string, args: ReadonlyJSONValue | undefined) =>
    (mustGetQuery(queries as never, name) as AnyCustomQuery).fn({ args, ctx: undefined });
  const found = await handleQueryRequest({ handler, schema, userID: undefined, query, body });
  response.setHeader("content-type", "application/json").end(JSON.stringify(found));
}
