/** What goes wrong, one at a time. Each ends with everything mended; what it broke has to recover by itself. */
import { setTimeout as delay } from "node:timers/promises";
import type { Random } from "../splice/random.ts";
import type { Simulation } from "./simulation.ts";

export type Fault = (simulation: Simulation, random: Random) => Promise<void>;

export const faults: Readonly<Record<string, Fault>> = {
  "the engine is killed": async ({ engine }, random) => {
    await engine.kill();
    await delay(random.integer(0, 300));
    await engine.start();
  },
  "the engine is stopped and started": async ({ engine }) => {
    await engine.stop();
    await engine.start();
  },
  "the engine is frozen": async ({ engine }, random) => {
    engine.freeze();
    await delay(random.integer(20, 1_500));
    engine.thaw();
  },
  "the walsender is terminated": async (simulation) => {
    await simulation.terminate("application_name = 'walcast'");
  },
  "all of the engine's backends are terminated": async (simulation) => {
    await simulation.terminate("application_name like 'walcast%'");
  },
  "Postgres crashes": async ({ cluster }) => {
    await cluster.crash();
    await cluster.start();
  },
  "clients' sockets are reset": async ({ wires }, random) => {
    random.pick(wires).reset();
  },
  "a client's packets go nowhere": async ({ wires }, random) => {
    const wire = random.pick(wires);
    wire.blackhole();
    await delay(random.integer(50, 1_500));
    wire.reset();
  },
  "a client does not read": async ({ wires }, random) => {
    const wire = random.pick(wires);
    wire.stall();
    await delay(random.integer(50, 1_500));
    wire.flow();
  },
  "clients' bytes come in slices": async ({ wires }, random) => {
    for (const wire of wires) wire.slice(true);
    await delay(random.integer(200, 1_000));
    for (const wire of wires) wire.slice(false);
  },
  "the engine's connections to Postgres are reset": async ({ postgresWire }) => {
    postgresWire.reset();
  },
  "the engine's packets to Postgres go nowhere": async ({ postgresWire }, random) => {
    postgresWire.blackhole();
    await delay(random.integer(50, 1_500));
    postgresWire.reset();
  },
  "the engine's bytes from Postgres come in slices": async ({ postgresWire }, random) => {
    postgresWire.slice(true);
    await delay(random.integer(200, 1_000));
    postgresWire.slice(false);
  },
};
