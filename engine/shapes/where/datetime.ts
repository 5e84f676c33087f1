/**
 * Dates and times: constants in ISO 8601 form → the text Postgres prints for them under DateStyle ISO and TimeZone UTC,
 * so that equality is equality of bytes; and the order of two such texts. What depends on the moment ('now', 'today')
 * or on a setting ('01/02/03') is refused.
 * https://www.postgresql.org/docs/current/datatype-datetime.html
 */
import { WalcastError } from "../../errors.ts";

export type DateTimeType = "date" | "timestamp" | "timestamptz";

/** A constant's canonical text; undefined where the fields are out of range. Throws `where_unsupported` on other forms. */
export function parseDateTime(text: string, type: DateTimeType): string | undefined {
  const moment = readMoment(text.trim(), type);
  if (moment === undefined) return undefined;
  return Number.isFinite(moment.days) ? inRange(moment, type) && formatMoment(moment, type) : formatInfinity(moment);
}

/** Compares two canonical texts, of one type or of two: a day begins when it does in UTC. */
export function compareDateTimes(
  a: Buffer,
  aStart: number,
  aEnd: number,
  b: Buffer,
  bStart: number,
  bEnd: number,
): number {
  // Years 0001 to 9999 sort as their bytes do: '+' and the end come before '.' and the digits.
  if (isPlain(a, aStart, aEnd) && isPlain(b, bStart, bEnd) && formOf(a, aStart, aEnd) === formOf(b, bStart, bEnd))
    return a.compare(b, bStart, bEnd, aStart, aEnd);
  const left = ownMoment(a, aStart, aEnd);
  const right = ownMoment(b, bStart, bEnd);
  return left.days === right.days ? left.micros - right.micros : left.days < right.days ? -1 : 1;
}

/** Days since 1970-01-01 and microseconds of that day, in UTC. Infinite days for ±infinity. */
interface Moment {
  readonly days: number;
  readonly micros: number;
}

const iso =
  /^(\d{4,7})-(\d{2})-(\d{2})(?:[ T](\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,6}))?)?( ?(?:Z|[+-]\d{2}(?::?\d{2}(?::\d{2})?)?))?)?( BC)?$/i;
const dayMicros = 86_400_000_000;

function readMoment(text: string, type: DateTimeType): Moment | undefined {
  if (/^[+-]?infinity$/i.test(text)) return { days: text.startsWith("-") ? -Infinity : Infinity, micros: 0 };
  const parts = iso.exec(text);
  if (!parts || (type === "date" && parts[4] !== undefined)) throw otherForm(type);
  const days = dayNumber(Number(parts[1]), Number(parts[2]), Number(parts[3]), parts[9] !== undefined);
  const micros = dayTime(Number(parts[4] ?? 0), Number(parts[5] ?? 0), Number(parts[6] ?? 0), parts[7] ?? "");
  const offset = zoneMicros(parts[8]?.trim() ?? "Z");
  if (days === undefined || micros === undefined || offset === undefined) return undefined;
  // Postgres ignores a zone in a timestamp without one.
  return carried(days, type === "timestamptz" ? micros - offset : micros);
}

function dayNumber(year: number, month: number, day: number, beforeChrist: boolean): number | undefined {
  if (year === 0 || month < 1 || month > 12 || day < 1) return undefined;
  const astronomical = beforeChrist ? 1 - year : year;
  if (day > daysInMonth(astronomical, month)) return undefined;
  return daysFromCivil(astronomical, month, day);
}

function dayTime(hour: number, minute: number, second: number, fraction: string): number | undefined {
  const micros = ((hour * 60 + minute) * 60 + second) * 1_000_000 + Number(fraction.padEnd(6, "0"));
  return minute < 60 && second < 60 && micros <= dayMicros ? micros : undefined;
}

/** Zones beyond ±15:59:59 are out of range in Postgres. */
function zoneMicros(zone: string): number | undefined {
  if (zone.toUpperCase() === "Z") return 0;
  const [hours, minutes = 0, seconds = 0] = (zone.slice(1).match(/\d{2}/g) ?? []).map(Number);
  if (hours! > 15 || minutes > 59 || seconds > 59) return undefined;
  return (zone.startsWith("-") ? -1 : 1) * ((hours! * 60 + minutes) * 60 + seconds) * 1_000_000;
}

function carried(days: number, micros: number): Moment {
  const extra = Math.floor(micros / dayMicros);
  return { days: days + extra, micros: micros - extra * dayMicros };
}

// Days and civil dates of the proleptic Gregorian calendar. A year is counted from March, so that the leap day is its
// last; 400 years are 146,097 days, and month m of it begins after (153 m + 2) / 5 days.
const daysPer400Years = 146_097;
const daysFromMarch0To1970 = 719_468;

// What Postgres can store.
const firstDay = daysFromCivil(-4713, 11, 24);
const lastDay = {
  date: daysFromCivil(5_874_897, 12, 31),
  timestamp: daysFromCivil(294_276, 12, 31),
  timestamptz: daysFromCivil(294_276, 12, 31),
};

function inRange(moment: Moment, type: DateTimeType): true | undefined {
  return moment.days >= firstDay && moment.days <= lastDay[type] ? true : undefined;
}

function formatMoment(moment: Moment, type: DateTimeType): string {
  const { year, month, day } = civilFromDays(moment.days);
  const date = `${padded(year > 0 ? year : 1 - year, 4)}-${padded(month, 2)}-${padded(day, 2)}`;
  const time = type === "date" ? "" : ` ${formatTime(moment.micros)}`;
  return date + time + (type === "timestamptz" ? "+00" : "") + (year > 0 ? "" : " BC");
}

function formatTime(micros: number): string {
  const seconds = Math.floor(micros / 1_000_000);
  const fraction = padded(micros % 1_000_000, 6).replace(/0+$/, "");
  const clock = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60]
    .map((part) => padded(part, 2))
    .join(":");
  return fraction === "" ? clock : `${clock}.${fraction}`;
}

function formatInfinity(moment: Moment): string {
  return moment.days > 0 ? "infinity" : "-infinity";
}

const PLUS = 0x2b;
const DASH = 0x2d;
const NINE = 0x39;
const LETTER_C = 0x43;

function isPlain(bytes: Uint8Array, start: number, end: number): boolean {
  return bytes[start + 4] === DASH && bytes[start]! <= NINE && bytes[start] !== DASH && bytes[end - 1] !== LETTER_C;
}

/** Of a plain text, which type it is of. */
function formOf(bytes: Uint8Array, start: number, end: number): DateTimeType {
  if (end - start === dateLength) return "date";
  return bytes[end - 3] === PLUS ? "timestamptz" : "timestamp";
}

const dateLength = "2026-11-21".length;

/** A canonical text; the zone is always UTC, so every type reads alike. */
function ownMoment(bytes: Buffer, start: number, end: number): Moment {
  const moment = readMoment(bytes.toString("latin1", start, end), "timestamptz");
  if (!moment)
    throw new WalcastError(
      "invariant",
      "compare dates: expected a value as Postgres prints it under DateStyle ISO and TimeZone UTC",
    );
  return moment;
}

function daysFromCivil(year: number, month: number, day: number): number {
  const y = month > 2 ? year : year - 1;
  const era = Math.floor(y / 400);
  const yearOfEra = y - era * 400;
  const dayOfYear = Math.floor((153 * ((month + 9) % 12) + 2) / 5) + day - 1;
  const dayOfEra = yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100) + dayOfYear;
  return era * daysPer400Years + dayOfEra - daysFromMarch0To1970;
}

function civilFromDays(days: number): { year: number; month: number; day: number } {
  const shiftedDays = days + daysFromMarch0To1970;
  const era = Math.floor(shiftedDays / daysPer400Years);
  const dayOfEra = shiftedDays - era * daysPer400Years;
  const leaps = Math.floor(dayOfEra / 1460) - Math.floor(dayOfEra / 36_524) + Math.floor(dayOfEra / 146_096);
  const yearOfEra = Math.floor((dayOfEra - leaps) / 365);
  const dayOfYear = dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100));
  const marchMonth = Math.floor((5 * dayOfYear + 2) / 153);
  const month = marchMonth < 10 ? marchMonth + 3 : marchMonth - 9;
  const year = era * 400 + yearOfEra + (month <= 2 ? 1 : 0);
  return { year, month, day: dayOfYear - Math.floor((153 * marchMonth + 2) / 5) + 1 };
}

function daysInMonth(year: number, month: number): number {
  const isLeap = year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0);
  return [31, isLeap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month - 1]!;
}

function padded(value: number, width: number): string {
  return String(value).padStart(width, "0");
}

function otherForm(type: DateTimeType): WalcastError {
  return new WalcastError(
    "where_unsupported",
    `read a constant of type ${type}: expected ISO 8601 form, infinity or -infinity`,
    {
      hint: type === "date" ? "Write it like '2026-11-21'." : "Write it like '2026-11-21 12:30:00.123456+00'.",
    },
  );
}
