/** Few values of each type, so that rows are often equal; and those that are easily put in the wrong order. */
export const valuesByType: Readonly<Record<string, readonly string[]>> = {
  int4: ["-10", "-9", "0", "9", "10", "100"],
  int8: ["-9007199254740993", "-9007199254740992", "5", "9007199254740992", "9007199254740993"],
  numeric: ["-1.5", "-1.25", "0", "0.0", "0.10", "0.1", "2", "10", "10.01", "NaN", "Infinity", "-Infinity"],
  float8: ["-1e300", "-0", "0", "1e-5", "2", "10", "NaN", "Infinity"],
  text: ["", " ", "A", "a", "B", "aa", "é", "z", "\ufb01", "😀"],
  varchar: ["", "A", "a", "a ", "é"],
  "character(3)": ["", "a", "a b", "ab", "b"],
  bool: ["t", "f"],
  date: ["infinity", "-infinity", "0044-03-15 BC", "0045-01-01 BC", "0999-12-31", "2024-02-29", "10000-01-01"],
  timestamptz: [
    "-infinity",
    "0044-03-15 10:00:00 BC",
    "2024-01-01",
    "2024-01-01 00:00:00.5",
    "2024-01-01 00:00:00.25",
    "12024-01-01",
  ],
  timestamp: ["2024-01-01", "2024-01-01 00:00:00.5", "2024-01-01 00:00:01", "infinity"],
  time: ["00:00", "09:00", "09:00:00.001", "24:00"],
  uuid: [
    "00000000-0000-0000-0000-000000000000",
    "0a000000-0000-0000-0000-000000000000",
    "f0000000-0000-0000-0000-000000000000",
  ],
  bytea: ["\\x", "\\x00", "\\x0a", "\\xff"],
  mood: ["sad", "ok", "happy"],
  jsonb: ["1", "{}", '"x"'],
};
/** A number stands for one of them; 12 for none. */
export function valueFor(type: string, number: number): string | null {
  const values = valuesByType[type]!;
  return number === 12 ? null : values[number % values.length]!;
}
