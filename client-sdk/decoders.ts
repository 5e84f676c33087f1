/** Postgres' text → JavaScript values, by type: see values.ts. */
export type DecodeValue = (text: string) => unknown;

export const oids = {
  bool: 16,
  bytea: 17,
  int8: 20,
  int2: 21,
  int4: 23,
  oid: 26,
  json: 114,
  float4: 700,
  float8: 701,
  date: 1082,
  timestamp: 1114,
  timestamptz: 1184,
  jsonb: 3802,
  box: 603,
} as const;

const decoders = new Map<number, DecodeValue>([
  [oids.bool, (text) => text === "t"],
  [oids.bytea, decodeBytes],
  [oids.int8, decodeInt8],
  [oids.int2, Number],
  [oids.int4, Number],
  [oids.oid, Number],
  [oids.json, (text) => JSON.parse(text) as unknown],
  [oids.jsonb, (text) => JSON.parse(text) as unknown],
  [oids.float4, Number],
  [oids.float8, Number],
  [oids.date, decodeDate],
  [oids.timestamp, decodeDate],
  [oids.timestamptz, decodeDate],
]);

/** pg_type.oid of array types → that of their elements. Grows when the replica creates types. */
export type ArrayTypes = ReadonlyMap<number, number>;

/** How to read values of a type; undefined where they stay text. */
export function decoderOf(typeOid: number, arrayTypes: ArrayTypes): DecodeValue | undefined {
  const element = arrayTypes.get(typeOid);
  return element === undefined ? decoderOfType(typeOid) : arrayDecoder(element);
}

/** The same of a type that is no array's. */
export function decoderOfType(typeOid: number): DecodeValue | undefined {
  return decoders.get(typeOid);
}

/** By the type of the elements. */
export function arrayDecoder(element: number): DecodeValue {
  const decodeElement = decoders.get(element);
  // box is the one type whose arrays are separated by semicolons.
  return (text) => decodeArray(text, decodeElement, element === oids.box ? ";" : ",");
}

function decodeInt8(text: string): number | bigint {
  const number = Number(text);
  return Number.isSafeInteger(number) ? number : BigInt(text);
}

function decodeBytes(text: string): Uint8Array {
  const bytes = new Uint8Array((text.length - 2) / 2);
  for (let i = 0; i < bytes.length; i++) bytes[i] = Number.parseInt(text.slice(2 * i + 2, 2 * i + 4), 16);
  return bytes;
}

const datePattern =
  /^(\d{4,6})-(\d\d)-(\d\d)(?: (\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?)?(?:([+-])(\d\d)(?::(\d\d))?(?::(\d\d))?)?( BC)?$/;

/** As PGlite: a date is midnight UTC, a timestamp without zone is local time. Written out, since engines differ in what Date parses. */
function decodeDate(text: string): Date | number | string {
  if (text === "infinity") return Infinity;
  if (text === "-infinity") return -Infinity;
  const parts = datePattern.exec(text);
  if (!parts) return text;
  const [
    ,
    year,
    month,
    day,
    hours = "0",
    minutes = "0",
    seconds = "0",
    fraction = "",
    sign,
    zoneHours = "0",
    zoneMinutes = "0",
    zoneSeconds = "0",
    era,
  ] = parts;
  const date = new Date(0);
  const fullYear = era ? 1 - Number(year) : Number(year);
  const milliseconds = Number(fraction.padEnd(3, "0").slice(0, 3));
  const isLocal = parts[4] !== undefined && sign === undefined;
  if (isLocal) {
    date.setFullYear(fullYear, Number(month) - 1, Number(day));
    date.setHours(Number(hours), Number(minutes), Number(seconds), milliseconds);
    return date;
  }
  const offset = (Number(zoneHours) * 60 + Number(zoneMinutes)) * 60 + Number(zoneSeconds);
  date.setUTCFullYear(fullYear, Number(month) - 1, Number(day));
  date.setUTCHours(Number(hours), Number(minutes), Number(seconds) - (sign === "-" ? -offset : offset), milliseconds);
  return date;
}

/**
 * `[0:1]={1,NULL,"a\"b"}` → nested arrays; the bounds are not kept. https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO
 * int2vector and oidvector count as arrays, but are written otherwise: they stay text.
 */
function decodeArray(text: string, decode: DecodeValue | undefined, delimiter: string): unknown[] | string {
  let at = text.indexOf("{");
  if (at < 0) return text;
  const readArray = (): unknown[] => {
    const values: unknown[] = [];
    at++;
    while (text[at] !== "}") {
      values.push(text[at] === "{" ? readArray() : readElement());
      if (text[at] === delimiter) at++;
    }
    at++;
    return values;
  };
  const readElement = (): unknown => {
    if (text[at] === '"') return convert(readQuoted());
    const start = at;
    while (text[at] !== delimiter && text[at] !== "}") at++;
    const plain = text.slice(start, at);
    return plain === "NULL" ? null : convert(plain);
  };
  const readQuoted = (): string => {
    let value = "";
    for (at++; text[at] !== '"'; at++) value += text[at] === "\\" ? text[++at] : text[at];
    at++;
    return value;
  };
  const convert = (value: string): unknown => (decode ? decode(value) : value);
  return readArray();
}
