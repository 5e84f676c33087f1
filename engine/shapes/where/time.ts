/**
 * Times of day: constants in ISO 8601 form → the text that Postgres prints, and the order of two such texts. The time of day
 * without a zone is in the order of its bytes.
 * https://www.postgresql.org/docs/current/datatype-datetime.html#DATATYPE-DATETIME-INPUT-TIMES
 */
import { WalcastError } from "../../errors.ts";

export type TimeType = "time" | "timetz";

const clock = /^(\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,6}))?)?$/;
const zoned = /^([\d:.]+) ?(Z|[+-]\d{2}(?::?\d{2}(?::\d{2})?)?)$/i;

/** A constant's canonical text; undefined where it is out of range. Throws `where_unsupported` on other forms. */
export function parseTime(text: string, type: TimeType): string | undefined {
  const [, time = "", zone = ""] = type === "time" ? [text, text.trim()] : (zoned.exec(text.trim()) ?? []);
  const parts = clock.exec(time);
  if (!parts) throw otherForm(type);
  const of24 = clockText(parts);
  if (type === "time") return of24;
  const offset = zoneText(zone);
  return of24 === undefined || offset === undefined ? undefined : of24 + offset;
}

/** By the moment in UTC, then the one further west first. */
export function compareZoned(a: Buffer, aStart: number, aEnd: number, b: Buffer, bStart: number, bEnd: number): number {
  const [left, right] = [read(a.toString("latin1", aStart, aEnd)), read(b.toString("latin1", bStart, bEnd))];
  return left.micros - left.east - (right.micros - right.east) || right.east - left.east;
}

function clockText([, hour, minute, second = "00", fraction = ""]: RegExpExecArray): string | undefined {
  const digits = fraction.replace(/0+$/, "");
  const isLast = hour === "24" && minute === "00" && second === "00" && digits === "";
  if ((Number(hour) > 23 && !isLast) || Number(minute) > 59 || Number(second) > 59) return undefined;
  return `${hour}:${minute}:${second}${digits === "" ? "" : `.${digits}`}`;
}

/** Hours alone where the rest is zero. */
function zoneText(zone: string): string | undefined {
  if (zone.toUpperCase() === "Z") return "+00";
  const [hours, minutes = "00", seconds = "00"] = zone.slice(1).match(/\d{2}/g)!;
  if (Number(hours) > 15 || Number(minutes) > 59 || Number(seconds) > 59) return undefined;
  const rest = seconds === "00" ? (minutes === "00" ? "" : `:${minutes}`) : `:${minutes}:${seconds}`;
  const isZero = hours === "00" && rest === "";
  return `${isZero ? "+" : zone[0]}${hours}${rest}`;
}

const printed = /^(\d+):(\d+):(\d+)(?:\.(\d+))?([+-])(\d+)(?::(\d+))?(?::(\d+))?$/;

/** In microseconds: the time of day, and how far east of Greenwich. */
function read(text: string): { micros: number; east: number } {
  const parts = printed.exec(text);
  if (!parts) throw new WalcastError("invariant", "compare times: expected a value as Postgres prints it");
  const [, hour, minute, second, fraction = "", sign, hours, minutes = "0", seconds = "0"] = parts;
  const micros = inSeconds(hour!, minute!, second!) * 1e6 + Number(fraction.padEnd(6, "0"));
  return { micros, east: (sign === "-" ? -1e6 : 1e6) * inSeconds(hours!, minutes, seconds) };
}

function inSeconds(hours: string, minutes: string, seconds: string): number {
  return (Number(hours) * 60 + Number(minutes)) * 60 + Number(seconds);
}

function otherForm(type: TimeType): WalcastError {
  return new WalcastError("where_unsupported", `read a constant of type ${type}: expected ISO 8601 form`, {
    hint: type === "time" ? "Write it like '12:30:00.123456'." : "Write it like '12:30:00.123456+00'.",
  });
}
