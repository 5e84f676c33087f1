/**
 * What it costs to find the shapes that a changed row belongs to, by how many shapes there are and how they are written; and
 * what one more shape costs the registry, in memory and in time.
 */
import { loadParser } from "../engine/shapes/where.ts";
import type { Bench, Figure, Progress } from "./bench.ts";
import { kinds, measureKind } from "./match/kinds.ts";
import { measureRegistry } from "./match/registry.ts";

export interface Parameters {
  readonly shapes: readonly number[];
  readonly changes: number;
  /** How many are routed at a time. */
  readonly readChanges: number;
  readonly subscriptions: number;
  readonly rounds: number;
}

export const match: Bench<Parameters> = {
  name: "match",
  question: "How long does it take to find the shapes of one changed row among many, and what does each of them cost?",
  notMeasured:
    "Receiving the row, and sending what was found. Each row belongs to one shape. The floor of a change is one look-up in a Map by a string that is already there; that of a subscription, adding such a string and deleting it.",
  real: {
    shapes: [10, 1_000, 100_000, 1_000_000],
    changes: 100_000,
    readChanges: 1_000,
    subscriptions: 20_000,
    rounds: 5,
  },
  brief: { shapes: [1_000, 100_000], rounds: 3 },
  small: { shapes: [10, 1_000], changes: 500, readChanges: 100, subscriptions: 100, rounds: 1 },
  run,
};

async function run(parameters: Parameters, progress: Progress): Promise<Figure[]> {
  await loadParser();
  const figures: Figure[] = [];
  for (const shapes of parameters.shapes) {
    for (const kind of kinds) {
      if (kind.shapesMax !== undefined && shapes > kind.shapesMax) continue;
      progress(`${shapes} shapes, ${kind.name}`);
      figures.push(await measureKind(kind, shapes, parameters));
    }
    progress(`${shapes} shapes in the registry`);
    figures.push(...(await measureRegistry(shapes, parameters)));
  }
  return figures;
}
