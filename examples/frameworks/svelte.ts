import type { Client } from "@walcast/client";
import { mount } from "svelte";
import Orders from "./Orders.svelte";

export function mountSvelte(client: Client, target: HTMLElement): void {
  mount(Orders, { target, props: { client } });
}
