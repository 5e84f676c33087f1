#!/usr/bin/env -S node --liftoff-only --max-semi-space-size=4 --expose-gc
/**
 * What `walcast` starts with: looks whether this Node can run the rest, before the rest is read, and says so where it
 * cannot. So nothing of ours is imported here, and nothing is written that an older Node could not read.
 *
 * With `--liftoff-only` V8 leaves the SQL parser's WebAssembly as it first compiles it. To optimise it takes 500 MiB for a
 * moment, with the first condition that is parsed, which would be parsed a third faster. New objects get 4 MiB, in which they are
 * collected as cheaply as in 16, and `--expose-gc` lets the engine give back what a burst needed: see calm.ts. No code can ask
 * for the first two once V8 runs.
 */
import process from "node:process";

const nodeMajorMin = 24;
const [major] = process.versions.node.split(".");

if (Number(major) >= nodeMajorMin) await import("./cli.ts");
else {
  process.stderr.write(
    `walcast: expected Node ${nodeMajorMin} or newer, found ${process.versions.node}; install it, or the npm package "node" beside this one\n`,
  );
  process.exitCode = 1;
}
