/**
 * A toast that comes with its order, or not at all: the message is published in the order's own transaction. The page is a bare
 * EventSource, which hears the newest three first, and what it missed when it comes back.
 *
 *     node --conditions=@walcast/source examples/topics/toasts.ts postgresql://user@localhost:5432/database
 */
import { createEngine, type Engine } from "@walcast/engine";
import pg from "pg";

const page = `<!doctype html><meta charset="utf-8"><title>Orders</title><button>Order</button><ul></ul><script>
  const toasts = new EventSource("/v1/topics/toasts?limit=3");
  toasts.onmessage = ({ data }) => document.querySelector("ul").append(toast(JSON.parse(data).text));
  document.querySelector("button").onclick = () => fetch("/order", { method: "POST" });
  function toast(text) {
    return Object.assign(document.createElement("li"), { textContent: text });
  }
</script>`;

export async function start(
  databaseUrl: string,
  port: number,
  dataDir: string,
): Promise<{ readonly url: string; close(): Promise<void> }> {
  const pool = new pg.Pool({ connectionString: databaseUrl });
  await pool.query("create table if not exists toast_orders (id bigint generated always as identity primary key)");
  const engine: Engine = await createEngine({
    databaseUrl,
    port,
    dataDir,
    slot: "toasts_example",
    tables: {},
    topics: { toasts: { read: true } },
    app,
    logLevel: "warn",
  });
  return {
    url: engine.url,
    close: async () => {
      await engine.close();
      await pool.end();
    },
  };

  async function app({ url, method }: Request): Promise<Response> {
    if (new URL(url).pathname === "/order" && method === "POST") return Response.json(await order());
    return new Response(page, { headers: { "Content-Type": "text/html; charset=utf-8" } });
  }

  async function order(): Promise<{ id: string }> {
    const client = await pool.connect();
    try {
      await client.query("begin");
      const { rows } = await client.query<{ id: string }>("insert into toast_orders default values returning id");
      const { id } = rows[0]!;
      await engine.publish("toasts", { text: `order ${id} is in` }, { tx: client });
      await client.query("commit");
      return { id };
    } catch (error) {
      await client.query("rollback");
      throw error;
    } finally {
      client.release();
    }
  }
}

if (import.meta.main) {
  const { url } = await start(process.argv[2]!, 4439, ".walcast-toasts-example");
  console.log(url);
}
