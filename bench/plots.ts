/** Figures as Markdown and as charts, for `--report`: what docs/benchmarks.md shows. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Conditions, ReportedFigure } from "./bench.ts";
import { type Chart, type Series, svgOf } from "./chart.ts";
import { conditionsLine, number, ranged } from "./report.ts";

/** In a figure's conditions, but the same for all of a run: said once, of the machine that most figures are of. */
const ofTheMachine = new Set(["cpu", "cores", "memoryGib", "node", "postgres"]);

/** Writes figures.md, and those charts for which there are figures. */
export function writeReport(directory: string, figures: readonly ReportedFigure[]): void {
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, "figures.md"), table(figures));
  for (const [name, chart] of Object.entries(charts(figures)))
    if (chart.series.length > 0) writeFileSync(join(directory, `${name}.svg`), svgOf(chart));
}

function table(figures: readonly ReportedFigure[]): string {
  const most = Map.groupBy(figures, ({ conditions }) => conditions["cpu"]);
  const usual = [...most.values()].toSorted((a, b) => b.length - a.length)[0] ?? [];
  const machine = Object.assign({}, ...usual.map(({ conditions }) => conditions)) as Conditions;
  const isUsual = ([name, value]: [string, unknown]): boolean => ofTheMachine.has(name) && machine[name] === value;
  const rows = figures.map(({ bench, figure, value, unit, floor, ratio, peer, range, peerRange, conditions }) => {
    const own = Object.entries(conditions).filter((one) => !isUsual(one));
    const name = `${bench}.${figure}`;
    return [
      name,
      ranged(value, range),
      number(floor),
      number(ratio),
      ranged(peer, peerRange),
      unit,
      conditionsLine(Object.fromEntries(own)),
    ];
  });
  const lines = [
    ["figure", "ours", "floor", "ratio", "peer", "unit", "conditions"],
    ["---", "--:", "--:", "--:", "--:", "---", "---"],
    ...rows,
  ];
  return [
    "# Figures",
    "",
    `${conditionsLine(Object.fromEntries(Object.entries(machine).filter(isUsual)))}, save where a line says otherwise. Written by \`npm run bench -- --report\`.`,
    "",
    ...lines.map((cells) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`),
    "",
  ].join("\n");
}

function charts(figures: readonly ReportedFigure[]): Record<string, Chart> {
  const throughput = figures.filter(({ bench }) => bench === "throughput");
  return {
    latency: {
      title: "From COMMIT to a client: so many changes take no longer",
      x: { label: "ms after COMMIT was acknowledged", scale: "linear" },
      y: { label: "% of changes", scale: "linear" },
      series: [
        ...cumulative(figures, "thousand_shapes_cdf_ms", "1,000 clients on 1,000 shapes, 200 changes/s"),
        ...cumulative(figures, "hundred_clients_cdf_ms", "100 clients on one shape, 10 changes/s"),
      ],
    },
    shapes: {
      title: "What a change costs against how many shapes there are",
      x: { label: "shapes", scale: "log" },
      y: { label: "ns per change", scale: "log" },
      series: [
        ...beside(named(figures, "match", "routed_ns_per_change"), "shapes", "all of routing, from bytes to payloads"),
        ...kinds(named(figures, "match", "ns_per_change")),
      ],
    },
    clients: {
      title: "Until the last of so many sockets has a change of one row",
      x: { label: "sockets on one shape", scale: "log" },
      y: { label: "ms after COMMIT was acknowledged", scale: "log" },
      series: withFloor(
        named(figures, "fanout", "last_socket_ms").filter(({ conditions }) => conditions.rows === 1),
        "sockets",
      ),
    },
    throughput: {
      title: "How late a change is against how much is written",
      x: { label: "transactions per second", scale: "linear" },
      y: { label: "ms after COMMIT was acknowledged, median", scale: "linear" },
      series: joined(throughput, "rate_per_s", "lag_p50_ms"),
    },
  };
}

function named(figures: readonly ReportedFigure[], bench: string, figure: string): ReportedFigure[] {
  return figures.filter((one) => one.bench === bench && one.figure === figure);
}

function cumulative(figures: readonly ReportedFigure[], name: string, title: string): Series[] {
  const found = named(figures, "fanout", name);
  const percent = ({ conditions }: ReportedFigure): number => Number(conditions.share) * 100;
  return some([
    { name: title, points: found.map((one) => [one.value, percent(one)] as const) },
    { name: `floor: ${title}`, points: found.map((one) => [one.floor!, percent(one)] as const) },
  ]);
}

function beside(figures: readonly ReportedFigure[], condition: string, name: string): Series[] {
  return some([
    { name, points: figures.map(({ conditions, value }) => [Number(conditions[condition]), value] as const) },
  ]);
}

function withFloor(figures: readonly ReportedFigure[], condition: string): Series[] {
  const floors = figures.map((one) => ({ ...one, value: one.floor! }));
  return [
    ...beside(figures, condition, "the engine"),
    ...beside(floors, condition, "floor: a bare loop of cork and send"),
  ];
}

/** Those that an index finds. */
function kinds(figures: readonly ReportedFigure[]): Series[] {
  const byKind = Map.groupBy(figures, ({ conditions }) => String(conditions.kind));
  return ["integer =", "uuid =", "IN of 3", "a range"].flatMap((kind) =>
    beside(byKind.get(kind) ?? [], "shapes", `the index alone, ${kind}`),
  );
}

/** One figure against another of the same conditions. */
function joined(figures: readonly ReportedFigure[], across: string, up: string): Series[] {
  const points = figures
    .filter(({ figure }) => figure === across)
    .map(({ value, conditions }) => {
      const other = figures.find(
        (one) => one.figure === up && conditionsLine(one.conditions) === conditionsLine(conditions),
      );
      return [value, other!.value] as const;
    });
  // What was asked for is not what was kept, beyond what the machine can do.
  return some([{ name: "the engine with one subscribed client", points: points.toSorted(([a], [b]) => a - b) }]);
}

function some(series: readonly Series[]): Series[] {
  return series.filter(({ points }) => points.length > 0);
}
