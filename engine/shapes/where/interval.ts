/**
 * Intervals as three counts that Postgres keeps apart: months, days and microseconds. Compared with each other, a month is
 * 30 days and a day is 24 hours, so equal intervals may have different texts.
 * https://www.postgresql.org/docs/current/datatype-datetime.html#DATATYPE-INTERVAL-INPUT
 */
import { WalcastError } from "../../errors.ts";

interface Interval {
  readonly months: bigint;
  readonly days: bigint;
  readonly micros: bigint;
}

const dayMicros = 86_400_000_000n;

/** A constant in the form that Postgres prints, more or less; undefined where it is out of range. */
export function parseInterval(text: string): string | undefined {
  const words = text.trim().replace(/ +/g, " ");
  const interval = read(words) ?? readIso(words);
  if (!interval) throw otherForm();
  const { months, days, micros } = interval;
  const fits = fitsIn(months, 31n) && fitsIn(days, 31n) && fitsIn(micros, 63n);
  return fits ? `${months} mons ${days} days ${clockText(micros)}` : undefined;
}

export function compareIntervals(
  a: Buffer,
  aStart: number,
  aEnd: number,
  b: Buffer,
  bStart: number,
  bEnd: number,
): number {
  const [left, right] = [spanOf(a.toString("latin1", aStart, aEnd)), spanOf(b.toString("latin1", bStart, bEnd))];
  return left < right ? -1 : left > right ? 1 : 0;
}

// More than any interval has.
const infinite = 2n ** 80n;

function spanOf(text: string): bigint {
  if (text.endsWith("infinity")) return text.startsWith("-") ? -infinite : infinite;
  const interval = read(text);
  if (!interval) throw new WalcastError("invariant", "compare intervals: expected a value as Postgres prints it");
  return (interval.months * 30n + interval.days) * dayMicros + interval.micros;
}

const units: Readonly<Record<string, readonly ["months" | "days" | "micros", bigint]>> = {
  year: ["months", 12n],
  mon: ["months", 1n],
  month: ["months", 1n],
  week: ["days", 7n],
  day: ["days", 1n],
  hour: ["micros", 3_600_000_000n],
  minute: ["micros", 60_000_000n],
  min: ["micros", 60_000_000n],
  second: ["micros", 1_000_000n],
  sec: ["micros", 1_000_000n],
};

const part =
  /(?:([+-]?\d{1,12}) ?(years?|mons?|months?|weeks?|days?|hours?|minutes?|mins?|seconds?|secs?)|([+-]?)(\d{1,12}):(\d{2})(?::(\d{2})(?:\.(\d{1,6}))?)?)( |$)/iy;

/** Whole counts of units, and a time at the end: `1 year 2 mons -3 days +04:05:06.7`. Each unit once, as Postgres wants it. */
function read(text: string): Interval | undefined {
  const counts = { months: 0n, days: 0n, micros: 0n };
  const seen = new Set<string>();
  part.lastIndex = 0;
  while (part.lastIndex < text.length) {
    const found = part.exec(text);
    if (!found) return undefined;
    const unit = found[2]?.toLowerCase().replace(/s$/, "") ?? "time";
    const name = sameUnits[unit] ?? unit;
    if (seen.has(name) || seen.has("time")) return undefined;
    seen.add(name);
    if (unit === "time") {
      if (["hour", "minute", "second"].some((each) => seen.has(each))) return undefined;
      const micros = clockMicros(found);
      if (micros === undefined) return undefined;
      counts.micros += micros;
    } else {
      const [field, size] = units[unit]!;
      counts[field] += BigInt(found[1]!.replace("+", "")) * size;
    }
  }
  return seen.size > 0 ? counts : undefined;
}

const sameUnits: Readonly<Record<string, string>> = { mon: "month", min: "minute", sec: "second" };

function clockMicros([, , , sign, hours, minutes, seconds = "0", fraction = ""]: RegExpExecArray): bigint | undefined {
  if (Number(minutes) > 59 || Number(seconds) > 59) return undefined;
  const whole = (BigInt(hours!) * 60n + BigInt(minutes!)) * 60n + BigInt(seconds);
  const micros = whole * 1_000_000n + BigInt(fraction.padEnd(6, "0"));
  return sign === "-" ? -micros : micros;
}

const iso =
  /^P(?=.)(?:(-?\d{1,9})Y)?(?:(-?\d{1,9})M)?(?:(-?\d{1,9})W)?(?:(-?\d{1,9})D)?(?:T(?=.)(?:(-?\d{1,9})H)?(?:(-?\d{1,9})M)?(?:(-?\d{1,9})S)?)?$/;

/** https://www.postgresql.org/docs/current/datatype-datetime.html#DATATYPE-INTERVAL-ISO8601-UNITS, in whole units. */
function readIso(text: string): Interval | undefined {
  const parts = iso.exec(text);
  if (!parts) return undefined;
  const [years, months, weeks, days, hours, minutes, seconds] = parts.slice(1).map((count) => BigInt(count ?? 0));
  return {
    months: years! * 12n + months!,
    days: weeks! * 7n + days!,
    micros: ((hours! * 60n + minutes!) * 60n + seconds!) * 1_000_000n,
  };
}

function clockText(micros: bigint): string {
  const size = micros < 0n ? -micros : micros;
  const seconds = size / 1_000_000n;
  const [hour, minute, second] = [seconds / 3600n, (seconds / 60n) % 60n, seconds % 60n].map((count) =>
    String(count).padStart(2, "0"),
  );
  const fraction = String(size % 1_000_000n)
    .padStart(6, "0")
    .replace(/0+$/, "");
  return `${micros < 0n ? "-" : ""}${hour}:${minute}:${second}${fraction === "" ? "" : `.${fraction}`}`;
}

function fitsIn(value: bigint, bits: bigint): boolean {
  return value >= -(1n << bits) && value < 1n << bits;
}

function otherForm(): WalcastError {
  return new WalcastError(
    "where_unsupported",
    "read a constant of type interval: expected whole counts of units, and a time at most",
    { hint: "Write it like '1 year 2 mons -3 days 04:05:06.789'." },
  );
}
