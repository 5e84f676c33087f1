/**
 * The shop's own endpoint: what a backend has to do for this page, which is to write to Postgres. It tells nobody what
 * it wrote; the pages hear of it because it was committed.
 *
 *     PATCH /api/orders/:id   {"status": "shipped"}   204, or 400, 404
 *     POST  /api/orders       {}                      204
 *     POST  /api/traffic      {"on": true}            204, or 400
 *     GET   /api/report                               200, the bestsellers
 */
import type { Pool } from "pg";
import { isStatus, statuses } from "../statuses.ts";
import { bestsellers } from "./report.ts";
import type { Traffic } from "./traffic.ts";

export function createApp(pool: Pool, traffic: Traffic): (request: Request) => Promise<Response> {
  return async (request) => {
    try {
      return await route(request, pool, traffic);
    } catch (error) {
      if (error instanceof Refusal) return answer(error.status, error.message);
      return answer(503, "The shop's database did not answer. Try again in a moment.");
    }
  };
}

class Refusal extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

async function route(request: Request, pool: Pool, traffic: Traffic): Promise<Response> {
  const { pathname } = new URL(request.url);
  const order = /^\/api\/orders\/([^/]+)$/.exec(pathname);
  if (order) return setStatus(pool, orderId(order[1]!), await body(request, "PATCH"));
  if (pathname === "/api/orders") {
    await body(request, "POST");
    return placeOrder(pool);
  }
  if (pathname === "/api/report") return report(pool, request);
  if (pathname === "/api/traffic") return setTraffic(traffic, await body(request, "POST"));
  throw new Refusal(404, "There is nothing at this address.");
}

async function setStatus(pool: Pool, id: number, { status }: Body): Promise<Response> {
  if (!isStatus(status)) throw new Refusal(400, `A status is one of ${statuses.join(", ")}.`);
  const { rowCount } = await pool.query("UPDATE orders SET status = $1 WHERE id = $2", [status, id]);
  if (rowCount === 0) throw new Refusal(404, `There is no order ${id}. It may have been deleted a moment ago.`);
  return done();
}

/** One statement, so one transaction: the order and what is said of it. */
async function placeOrder(pool: Pool): Promise<Response> {
  await pool.query("SELECT place_order()");
  return done();
}

async function report(pool: Pool, { method }: Request): Promise<Response> {
  if (method !== "GET") throw new Refusal(405, "Use GET here.");
  return Response.json(await bestsellers(pool), { headers: { "Cache-Control": "no-store" } });
}

async function setTraffic(traffic: Traffic, { on }: Body): Promise<Response> {
  if (typeof on !== "boolean") throw new Refusal(400, "Say on: true or false.");
  await (on ? traffic.start() : traffic.stop());
  return done();
}

function orderId(text: string): number {
  const id = Number(text);
  if (!/^\d{1,10}$/.test(text) || id > 2 ** 31 - 1)
    throw new Refusal(404, `There is no order ${JSON.stringify(text)}.`);
  return id;
}

type Body = Readonly<Record<string, unknown>>;

const bodyCharactersMax = 1_000;

/** JSON only: other sites' pages cannot send that content type here without being asked for permission first. */
async function body(request: Request, method: string): Promise<Body> {
  if (request.method !== method) throw new Refusal(405, `Use ${method} here.`);
  if (!request.headers.get("content-type")?.startsWith("application/json"))
    throw new Refusal(415, "Send application/json.");
  const text = await request.text();
  if (text.length > bodyCharactersMax) throw new Refusal(413, `Send at most ${bodyCharactersMax} characters.`);
  const value = parse(text);
  if (typeof value !== "object" || value === null) throw new Refusal(400, "Send a JSON object.");
  return value as Body;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new Refusal(400, "The body is not JSON.");
  }
}

function done(): Response {
  return new Response(null, { status: 204 });
}

function answer(status: number, message: string): Response {
  return Response.json({ message }, { status });
}
