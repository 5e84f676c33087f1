/** The arithmetic of the revenue chart, without anything to draw on: buckets without gaps, and round numbers for axes. */
export interface Bucket {
  /** Milliseconds since 1970. */
  readonly start: number;
  readonly revenue: number;
  readonly orders: number;
}

/** One bucket for each step up to the newest one, empty where nothing was sold. */
export function withoutGaps(found: readonly Bucket[], stepMs: number, count: number): readonly Bucket[] {
  const byStart = new Map(found.map((bucket) => [bucket.start, bucket]));
  const newest = found.at(-1)?.start ?? Math.floor(Date.now() / stepMs) * stepMs;
  return Array.from({ length: count }, (_, i) => {
    const start = newest - (count - 1 - i) * stepMs;
    return byStart.get(start) ?? { start, revenue: 0, orders: 0 };
  });
}

/** A few round numbers from 0 to one that is not below `largest`. An axis without sales still has a scale. */
export function axisTicks(largest: number): readonly number[] {
  const top = Math.max(largest, 10);
  const step = roundUp(top / steps);
  return Array.from({ length: Math.ceil(top / step) + 1 }, (_, i) => i * step);
}

const steps = 5;

/** The next number that is 1, 2, 2.5 or 5 times a power of ten. */
function roundUp(number: number): number {
  const power = 10 ** Math.floor(Math.log10(number));
  return power * [1, 2, 2.5, 5, 10].find((factor) => factor * power >= number)!;
}
