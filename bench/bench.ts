/**
 * What a benchmark is. Each is a file that exports one Bench: the question it answers, what it does not measure, and
 * how to measure it with given parameters, small ones for every test run and real ones. Whatever a bench produces is
 * checked outside the timed part: a fast wrong answer is no answer.
 */
export interface Bench<Parameters extends object = object> {
  readonly name: string;
  readonly question: string;
  readonly notMeasured: string;
  /** For figures that mean something. */
  readonly real: Parameters;
  /** What of them is less where all benchmarks together should take ten minutes: mostly rounds, so figures vary more. */
  readonly brief?: Partial<Parameters>;
  /** For tests: the same code in a moment, the figures being worth nothing. */
  readonly small: Parameters;
  run(parameters: Parameters, progress: Progress): Promise<readonly Figure[]>;
}

/** Called with what is being done now. */
export type Progress = (doing: string) => void;

export interface Figure {
  readonly figure: string;
  readonly value: number;
  readonly unit: string;
  /** What the same machine allowed in the same run, in the same unit. */
  readonly floor?: number;
  /** value ÷ floor, for times and rates alike: the unit says which way is good. */
  readonly ratio?: number;
  /** Another implementation's figure in the same run, in the same unit. `conditions.peer` says whose. */
  readonly peer?: number;
  /** The least and the most that a round gave: ours, and the peer's. */
  readonly range?: Range;
  readonly peerRange?: Range;
  readonly conditions: Conditions;
}

export type Range = readonly [least: number, most: number];

/** Under what a figure holds: parameters, the machine, who the peer is. */
export type Conditions = Readonly<Record<string, string | number>>;

/** One line of the JSON that `--json` writes. */
export interface ReportedFigure extends Figure {
  readonly bench: string;
}

/** A figure beside its floor. */
export function figure(
  name: string,
  unit: string,
  value: number,
  floor: number,
  rest: { peer?: number; conditions?: Conditions } = {},
): Figure {
  return { figure: name, value, unit, floor, ratio: value / floor, conditions: {}, ...rest };
}
