/** A row as an application sees it. */
export type Row = Record<string, unknown>;

/** Assignment, save for the one column name that assignment would understand differently. */
export function setField(row: Row, name: string, value: unknown): void {
  if (name !== "__proto__") row[name] = value;
  else Object.defineProperty(row, name, { value, enumerable: true, configurable: true, writable: true });
}
