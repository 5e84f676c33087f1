/**
 * A plain server that renders its page with the rows in it: they are there at first paint, and the page goes on from their position.
 *
 *     node --conditions=@walcast/source examples/seeding/server.ts postgresql://user@localhost:5432/database
 */
import { rowsOfSeed } from "@walcast/client";
import { createEngine, type Engine } from "@walcast/engine";
import { list, type Order, shapes } from "./view.ts";

/** `staticDir`: where page.js is, made of page.ts by a bundler. */
export async function start(databaseUrl: string, port: number, dataDir: string, staticDir?: string): Promise<Engine> {
  const engine: Engine = await createEngine({
    databaseUrl,
    port,
    dataDir,
    staticDir,
    slot: "seeding_example",
    tables: { orders: { read: true } },
    app,
    logLevel: "warn",
  });
  return engine;

  async function app({ url }: Request): Promise<Response> {
    if (new URL(url).pathname !== "/") return new Response(null, { status: 404 });
    const seed = await engine.seed(shapes);
    const orders = rowsOfSeed<Order>(seed, "orders").toSorted((a, b) => a.id - b.id);
    const html = `<!doctype html><meta charset="utf-8"><title>Orders</title><ul>${list(orders)}</ul>
      <script type="application/json" id="seed">${String(seed)}</script><script type="module" src="/page.js"></script>`;
    // Rows of one user belong into no shared cache.
    const headers = { "Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store" };
    return new Response(html, { headers });
  }
}

if (import.meta.main) {
  const { bundled } = await import("./bundle.ts");
  const { url } = await start(process.argv[2]!, 4440, ".walcast-seeding-example", await bundled());
  console.log(url);
}
