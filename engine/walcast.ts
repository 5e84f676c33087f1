#!/usr/bin/env -S node --liftoff-only --optimize-for-size --max-semi-space-size=4
/**
 * What `walcast` starts with: looks whether this Node can run the rest, before the rest is read, and says so where it
 * cannot. So nothing of ours is imported here, and nothing is written that an older Node could not read.
 *
 * With `--liftoff-only` V8 leaves the SQL parser's WebAssembly as it first compiles it. To optimise it takes 500 MiB for a
 * moment, with the first condition that is parsed, which would be parsed a third faster. With `--optimize-for-size` it collects
 * garbage before it takes more memory, and gives back what a burst needed: half of what 10,000 subscriptions left behind, at
 * no cost that could be measured (the code is the same). It would also keep all new objects in 1 MiB, and 4 are collected a
 * quarter as often. No code can ask for any of them once V8 runs.
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
