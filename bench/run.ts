/**
 * `npm run bench [-- NAME… | OPTIONS]`: the benchmarks named, or all of them, one after another, as a table on stdout with progress on stderr.
 *
 *     --brief          fewer rounds: all take ten minutes
 *     --small          in a moment, with figures worth nothing
 *     --json FILE      writes the figures
 *     --compare FILE   reads some of an earlier run, and shows what changed
 *     --report DIR     writes a Markdown table and charts
 *     --from FILE      of figures that are there: nothing runs
 *     --profiles DIR   has every process of a benchmark leave V8's CPU profile there
 */
import { readFileSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { prepareEmptyReplica } from "../tests/support/empty-replica.ts";
import type { Bench, Progress, ReportedFigure } from "./bench.ts";
import { benches } from "./benches.ts";
import { machine } from "./machine.ts";
import { writeReport } from "./plots.ts";
import { sharePostgres } from "./postgres.ts";
import { writeProfiles } from "./processes.ts";
import { conditionsLine, heading, line, took } from "./report.ts";
import { runSmall } from "./small.ts";

const { values, positionals } = commandLine();
const chosen = choose(positionals);
const earlier = values.compare === undefined ? [] : read(values.compare);
const figures: ReportedFigure[] = values.from === undefined ? [] : read(values.from);

// Without it a replica takes seconds more to open than where the package is installed.
if (values.from === undefined) prepareEmptyReplica();
console.log(conditionsLine(machine()));
if (values.from === undefined) await runAll();
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(figures, null, 2)}\n`);
if (values.report !== undefined) writeReport(values.report, figures);

async function runAll(): Promise<void> {
  if (values.small) runSmall();
  if (values.profiles !== undefined) writeProfiles(resolve(values.profiles));
  const end = values.small ? await sharePostgres() : undefined;
  try {
    for (const bench of chosen) {
      console.log(heading(bench));
      const start = performance.now();
      for (const figure of await runBench(bench)) {
        figures.push(figure);
        console.log(line(figure, earlier));
      }
      console.log(took(performance.now() - start));
    }
  } finally {
    await end?.();
  }
}

async function runBench(bench: Bench): Promise<ReportedFigure[]> {
  const found = await bench.run(parametersOf(bench), progressOf(bench.name));
  clearProgress();
  return found.map((figure) => ({ bench: bench.name, ...figure, conditions: { ...machine(), ...figure.conditions } }));
}

function parametersOf({ real, brief, small }: Bench): object {
  if (values.small) return small;
  return values.brief ? { ...real, ...brief } : real;
}

function commandLine() {
  const options = {
    brief: { type: "boolean", default: false },
    small: { type: "boolean", default: false },
    json: { type: "string" },
    compare: { type: "string" },
    report: { type: "string" },
    from: { type: "string" },
    profiles: { type: "string" },
  } as const;
  try {
    return parseArgs({ options, allowPositionals: true });
  } catch (error) {
    return stop(
      `${(error as Error).message} Usage: npm run bench [-- NAME…] [--brief] [--small] [--json FILE] [--compare FILE] [--report DIR] [--from FILE] [--profiles DIR]`,
    );
  }
}

function read(file: string): ReportedFigure[] {
  return JSON.parse(readFileSync(file, "utf8")) as ReportedFigure[];
}

function choose(names: readonly string[]): readonly Bench[] {
  const unknown = names.find((name) => !benches.some((bench) => bench.name === name));
  if (unknown !== undefined)
    stop(`There is no benchmark ${unknown}: there are ${benches.map(({ name }) => name).join(", ")}.`);
  return names.length === 0 ? benches : benches.filter(({ name }) => names.includes(name));
}

function stop(reason: string): never {
  console.error(reason);
  process.exit(1);
}

/** On a terminal the line is rewritten; in a file every step keeps its own. */
function progressOf(name: string): Progress {
  return (doing) => process.stderr.write(process.stderr.isTTY ? `\r\x1b[K${name}: ${doing}` : `${name}: ${doing}\n`);
}

function clearProgress(): void {
  if (process.stderr.isTTY) process.stderr.write("\r\x1b[K");
}
