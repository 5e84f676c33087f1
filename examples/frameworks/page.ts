/**
 * One client, and the same list in four frameworks: all of them show the same state, and change with the same commit. With an engine that
 * serves a table `orders`, `npm start` for one:
 *
 *     npx vite examples/frameworks            # then http://localhost:5173/?engine=ws://localhost:4437
 */
import { createClient } from "@walcast/client";
import { mountReact } from "./react.tsx";
import { mountSolid } from "./solid.ts";
import { mountSvelte } from "./svelte.ts";
import { mountVue } from "./vue.ts";

const url = new URLSearchParams(location.search).get("engine") ?? "ws://localhost:4437";
const client = createClient({ url, shapes: { orders: { table: "orders", columns: ["id", "status"] } } });

const mounts = { react: mountReact, vue: mountVue, svelte: mountSvelte, solid: mountSolid };
for (const [name, mount] of Object.entries(mounts)) mount(client, document.getElementById(name)!);

// To play with in the browser's console.
Object.assign(globalThis, { client });
