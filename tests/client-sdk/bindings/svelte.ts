import { flushSync, mount, unmount } from "svelte";
import { writable } from "svelte/store";
import App from "./App.svelte";
import type { Mount } from "./application.ts";

export const mountSvelte: Mount = (client, target) => {
  const least = writable(0);
  const app = mount(App, { target, props: { client, least } });
  flushSync();
  return { setLeast: (id) => least.set(id), unmount: () => void unmount(app) };
};
