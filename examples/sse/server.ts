/**
 * Server-rendered HTML that stays current: the page is rendered once, and every commit that changes it sends its list anew. The
 * browser puts it in place with five lines of script, and gets all of it again whenever it connects again.
 *
 *     node examples/sse/server.ts postgresql://user@localhost:5432/database
 */
import { createEngine, type Engine, sse } from "@walcast/engine";

interface Order {
  readonly id: number;
  readonly status: string;
}

const newest = { table: "orders", columns: ["id", "status"], orderBy: "id desc", limit: 20 };

const page = `<!doctype html><meta charset="utf-8"><title>Orders</title><main></main><script>
  new EventSource("/orders").onmessage = ({ data }) => {
    document.querySelector("main").innerHTML = data;
  };
</script>`;

export async function start(databaseUrl: string, port: number, dataDir: string): Promise<Engine> {
  const engine: Engine = await createEngine({
    databaseUrl,
    port,
    dataDir,
    slot: "sse_example",
    tables: {},
    app,
    logLevel: "warn",
  });
  return engine;

  function app({ url, signal }: Request): Response {
    if (new URL(url).pathname === "/orders") return sse(lists(signal), { signal });
    return new Response(page, { headers: { "Content-Type": "text/html; charset=utf-8" } });
  }

  async function* lists(signal: AbortSignal): AsyncIterable<string> {
    for await (const orders of engine.watch<Order>(newest, { signal, coalesceMs: 50 })) yield render(orders);
  }
}

function render(orders: readonly Order[]): string {
  return `<ul>\n${orders.map(({ id, status }) => `<li>${id}: ${escaped(status)}</li>`).join("\n")}\n</ul>`;
}

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);
}

if (import.meta.main) {
  const { url } = await start(process.argv[2]!, 4438, ".walcast-sse-example");
  console.log(url);
}
