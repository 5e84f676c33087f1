/** The page of bindings.browser.test.ts: one client, and an application in each framework that the test mounts by turns. */
import { createClient } from "../../../client-sdk/index.ts";
import type { Database, Mount, Mounted } from "./application.ts";
import { mountReact, mountWaiting } from "./react.ts";
import { mountSolid } from "./solid.ts";
import { mountSvelte } from "./svelte.ts";
import { mountVue } from "./vue.ts";

const client = createClient<Database>({ url: new URLSearchParams(location.search).get("server")! });
const mounts: Readonly<Record<string, Mount>> = {
  react: mountReact,
  waiting: mountWaiting,
  solid: mountSolid,
  svelte: mountSvelte,
  vue: mountVue,
};
let mounted: Mounted | undefined;

Object.assign(globalThis, {
  client,
  mount(name: string) {
    const target = document.createElement("main");
    document.querySelector("main")!.replaceWith(target);
    mounted = mounts[name]!(client, target);
  },
  setLeast: (id: number) => mounted!.setLeast(id),
  unmount: () => mounted!.unmount(),
});
