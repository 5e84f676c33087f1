/** What goes wrong, one at a time. Each ends with everything mended; what it broke has to recover by itself. */
import { setTimeout as delay } from "node:timers/promises";
import type { Random } from "../splice/random.ts";
import { randomAccess } from "./rules.ts";
import type { Stage } from "./stage.ts";

export type Fault = (stage: Stage, random: Random) => Promise<void>;

export const faults: Readonly<Record<string, Fault>> = {
  "the engine is killed": async ({ engines }, random) => {
    const { engine } = random.pick(engines);
    await engine.kill();
    await delay(random.integer(0, 300));
    await engine.start();
  },
  "the engine is stopped and started": async ({ engines }, random) => {
    const { engine } = random.pick(engines);
    await engine.stop();
    await engine.start();
  },
  // Clients that were with it go on with the other one, if there is one, and some come back.
  "an engine is away for longer": async ({ engines }, random) => {
    const { engine } = random.pick(engines);
    await (random.chance(0.5) ? engine.stop() : engine.kill());
    await delay(random.integer(500, 2_500));
    await engine.start();
  },
  "clients move": async ({ wires }) => {
    for (const wire of wires) wire.reset();
  },
  "the engine is frozen": async ({ engines }, random) => {
    const { engine } = random.pick(engines);
    engine.freeze();
    await delay(random.integer(20, 1_500));
    engine.thaw();
  },
  "the walsender is terminated": async (stage) => {
    await stage.terminate("application_name = 'walcast'");
  },
  "all of the engine's backends are terminated": async (stage) => {
    await stage.terminate("application_name like 'walcast%'");
  },
  "Postgres crashes": async ({ cluster }) => {
    await cluster.crash();
    await cluster.start();
  },
  "all engines are killed": async ({ engines }) => {
    await Promise.all(engines.map(({ engine }) => engine.kill()));
    await Promise.all(engines.map(({ engine }) => engine.start()));
  },
  "a client starts again on its replica": async ({ watchers }, random) => {
    await random.pick(watchers).restart();
  },
  "a client's process is killed": async (stage, random) => {
    const remote = stage.remote!;
    await remote.kill();
    await delay(random.integer(0, 200));
    const shapes = remote.isRefused || random.chance(0.15) ? stage.randomShapes() : undefined;
    await remote.start(shapes, random.chance(0.3) ? randomAccess(random) : undefined);
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
  // More than sockets hold, so that it falls behind, and in the middle of a transaction.
  "a client does not read while much is written": async (stage, random) => {
    const wire = random.pick(stage.wires);
    wire.stall();
    await stage.writeMuch();
    await delay(random.integer(50, 300));
    wire.flow();
  },
  "clients' bytes come in slices": async ({ wires }, random) => {
    for (const wire of wires) wire.slice(true);
    await delay(random.integer(200, 1_000));
    for (const wire of wires) wire.slice(false);
  },
  "the engine's connections to Postgres are reset": async ({ engines }, random) => {
    const { postgresWire } = random.pick(engines);
    postgresWire.reset();
  },
  "the engine's packets to Postgres go nowhere": async ({ engines }, random) => {
    const { postgresWire } = random.pick(engines);
    postgresWire.blackhole();
    await delay(random.integer(50, 1_500));
    postgresWire.reset();
  },
  "the engine's bytes from Postgres come in slices": async ({ engines }, random) => {
    const { postgresWire } = random.pick(engines);
    postgresWire.slice(true);
    await delay(random.integer(200, 1_000));
    postgresWire.slice(false);
  },
};
