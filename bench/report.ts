/** Figures as people read them, and how they differ from those of another run. */
import type { Bench, Conditions, Range, ReportedFigure } from "./bench.ts";

const nameWidth = 40;
const numberWidth = 12;

export function heading({ name, question, notMeasured }: Bench): string {
  return `\n${name}: ${question}\n  Not measured: ${notMeasured}\n\n${row(["", "ours", "floor", "ratio", "peer", ""])}`;
}

/** One line: name, ours, floor, ratio, peer, unit, and what sets this figure apart from others of its name. */
export function line(figure: ReportedFigure, earlier: readonly ReportedFigure[]): string {
  const before = earlier.find((candidate) => sameFigure(candidate, figure));
  const cells = [
    `${figure.bench}.${figure.figure}`,
    number(figure.value),
    number(figure.floor),
    number(figure.ratio),
    number(figure.peer),
    figure.unit,
  ];
  return [row(cells), ...ranges(figure), ...(before ? [change(figure, before)] : [])].join("  ");
}

export function took(ms: number): string {
  return `\n  in ${Math.round(ms / 1000)} s`;
}

function ranges({ range, peerRange, conditions }: ReportedFigure): string[] {
  if (!range || !peerRange) return [];
  return [`(${between(range)}; ${conditions.peer}: ${between(peerRange)})`];
}

function between([least, most]: Range): string {
  return `${number(least)}–${number(most)}`;
}

/** A median and between what its rounds were. */
export function ranged(value: number | undefined, range: Range | undefined): string {
  return range ? `${number(value)} (${between(range)})` : number(value);
}

/** The conditions that all figures share, and so need saying only once. */
export function conditionsLine(conditions: Conditions): string {
  return Object.entries(conditions)
    .map(([name, value]) => `${name} ${value}`)
    .join(" · ");
}

function row([name = "", ...cells]: readonly string[]): string {
  const unit = cells.pop() ?? "";
  return `  ${name.padEnd(nameWidth)}${cells.map((cell) => cell.padStart(numberWidth)).join("")}  ${unit}`;
}

function change(now: ReportedFigure, before: ReportedFigure): string {
  const percent = (now.value / before.value - 1) * 100;
  return `(before ${number(before.value)}, ${percent >= 0 ? "+" : ""}${percent.toFixed(1)} %)`;
}

/** A figure is the same if bench, name and conditions are: a figure of another machine has nothing to say about this one. */
function sameFigure(a: ReportedFigure, b: ReportedFigure): boolean {
  return a.bench === b.bench && a.figure === b.figure && conditionsLine(a.conditions) === conditionsLine(b.conditions);
}

/** Four significant digits: more would be noise. */
export function number(value: number | undefined): string {
  if (value === undefined) return "–";
  return Number(value.toPrecision(4)).toLocaleString("en-US", { maximumSignificantDigits: 4 });
}
