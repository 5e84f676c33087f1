import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import test, { after } from "node:test";
import { benches } from "../../bench/benches.ts";
import { inTurn, median, percentile } from "../../bench/measure.ts";
import type { ReportedFigure } from "../../bench/bench.ts";
import { processFlags } from "../support/processes.ts";

/** All in one process: to start another costs as much as most of them do. */
async function smallRun(): Promise<{ figures: string; stdout: string }> {
  const figures = join(directory, "figures.json");
  const { code, stdout, stderr } = await bench("--small", "--json", figures);
  assert.equal(code, 0, stderr);
  return { figures, stdout };
}

const directory = await mkdtemp(join(tmpdir(), "walcast-bench-"));
after(() => rm(directory, { recursive: true }));
const running = smallRun();

for (const { name } of benches) {
  test(`the benchmark ${name} runs with small parameters and reports its figures`, { timeout: 300_000 }, async () => {
    const { figures, stdout } = await running;
    const own = (await read(figures)).filter((figure) => figure.bench === name);
    assert.notEqual(own.length, 0);
    for (const figure of own) {
      assertShape(figure);
      assert.ok(stdout.includes(`${name}.${figure.figure}`), stdout);
    }
  });
}

test("figures are compared with those of an earlier run under the same conditions, and with no others", async () => {
  const { figures } = await running;
  const earlier = (await read(figures)).map((one) =>
    one.figure === "changes_per_s" ? one : { ...one, conditions: { cpu: "another" } },
  );
  const file = join(directory, "earlier.json");
  await writeFile(file, JSON.stringify(earlier));
  const { stdout } = await bench("decode", "--small", "--compare", file);
  assert.match(stdout, /decode\.changes_per_s .*\(before [\d,.]+, [+-][\d.]+ %\)/);
  assert.match(stdout, /decode\.times_pgoutput_plugin (?!.*before)/);
});

test("every process of a benchmark leaves a profile that says where its time went", async () => {
  const profiles = join(directory, "profiles");
  const { code, stderr } = await bench("throughput", "--small", "--profiles", profiles);
  assert.equal(code, 0, stderr);
  const names = await readdir(profiles);
  for (const part of ["bench-engine", "throughput-writers", "throughput-reader"])
    assert.ok(
      names.some((name) => name.startsWith(`${part}-`)),
      names.join(),
    );
  const engine = names.find((name) => name.startsWith("bench-engine-"))!;
  const { nodes } = JSON.parse(await readFile(join(profiles, engine), "utf8")) as {
    nodes: { callFrame: { functionName: string; url: string } }[];
  };
  assert.ok(nodes.some(({ callFrame }) => callFrame.url.endsWith("/engine/changes/stream.ts")));
});

test("a report has every figure in a table, and charts of those that make one", async () => {
  const { figures } = await running;
  const report = join(directory, "report");
  const [first, ...others] = await read(figures);
  const elsewhere = { ...first!, conditions: { ...first!.conditions, cpu: "another" } };
  await writeFile(join(directory, "mixed.json"), JSON.stringify([elsewhere, ...others]));
  const { code, stderr } = await bench("--from", join(directory, "mixed.json"), "--report", report);
  assert.equal(code, 0, stderr);
  const table = await readFile(join(report, "figures.md"), "utf8");
  const ofAnother = table.split("\n").filter((line) => line.includes("cpu another"));
  assert.deepEqual([ofAnother.length, ofAnother[0]!.startsWith(`| ${first!.bench}.${first!.figure} |`)], [1, true]);
  for (const { bench: name, figure } of await read(figures)) assert.ok(table.includes(`| ${name}.${figure} |`), table);
  for (const name of ["latency", "shapes", "clients", "throughput"]) {
    const chart = await readFile(join(report, `${name}.svg`), "utf8");
    assert.match(chart, /^<svg .*<polyline [^>]*points="[-\d., ]*".*<\/svg>\n$/s);
    assert.match(chart, /prefers-color-scheme: dark/);
    assert.doesNotMatch(chart, /NaN|Infinity/);
  }
});

test("a benchmark that does not exist is refused with the names of those that do", async () => {
  const { code, stderr } = await bench("decoed");
  assert.equal(code, 1);
  assert.match(stderr, /^There is no benchmark decoed: there are decode/);
});

test("an option that does not exist is refused with the usage", async () => {
  const { code, stderr } = await bench("--smal");
  assert.equal(code, 1);
  assert.match(stderr, /--smal.*Usage: npm run bench/);
});

test("contenders take turns, and their first turn does not count", async () => {
  const order: string[] = [];
  const contender = (name: string) => () => order.push(name);
  const results = await inTurn(2, { a: contender("a"), b: contender("b") });
  assert.deepEqual(order, ["a", "b", "a", "b", "a", "b"]);
  assert.deepEqual(results, { a: [3, 5], b: [4, 6] });
});

test("contenders that start afresh have no turn that does not count", async () => {
  let turns = 0;
  assert.deepEqual(await inTurn(2, { a: () => ++turns }, { warmUp: false }), { a: [1, 2] });
});

test("a percentile is the smallest value that so many do not exceed", () => {
  const hundred = Array.from({ length: 100 }, (_, index) => 100 - index);
  assert.equal(percentile(hundred, 0.99), 99);
  assert.equal(percentile(hundred, 0.5), 50);
  assert.equal(percentile([7], 0.99), 7);
  assert.equal(median([10, 9, 2]), 9);
  assert.throws(() => median([]), /no values/);
});

const required = ["bench", "figure", "value", "unit", "conditions"];
const known = new Set([...required, "floor", "ratio", "peer", "range", "peerRange"]);

function assertShape(figure: ReportedFigure): void {
  assert.deepEqual(
    required.filter((key) => !(key in figure)),
    [],
  );
  assert.deepEqual(
    Object.keys(figure).filter((key) => !known.has(key)),
    [],
  );
  assert.match(figure.figure, /^[a-z0-9_]+$/);
  assert.ok(Number.isFinite(figure.value), `${figure.figure} is ${figure.value}`);
  if (figure.floor !== undefined) assert.ok(Math.abs(figure.ratio! - figure.value / figure.floor) < 1e-9);
  for (const key of ["cpu", "cores", "node"]) assert.ok(key in figure.conditions, `${figure.figure} says its ${key}`);
}

async function bench(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const file = join(import.meta.dirname, "..", "..", "bench", "run.ts");
  const child = spawn(process.execPath, [...processFlags, file, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  const [stdout, stderr, [code]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, "close") as Promise<[number]>,
  ]);
  return { code, stdout, stderr };
}

async function read(file: string): Promise<ReportedFigure[]> {
  return JSON.parse(await readFile(file, "utf8")) as ReportedFigure[];
}
