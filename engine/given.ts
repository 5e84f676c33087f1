/** What a config has at a key, checked: each of these throws `config_invalid`, which names the key, what was expected and what was found. */
import { WalcastError } from "./errors.ts";

export function requireKnown(given: object, known: readonly string[], where: string): void {
  const unknown = Object.keys(given).find((key) => !known.includes(key));
  if (unknown === undefined) return;
  throw new WalcastError(
    "config_invalid",
    `read ${where}: there is no key ${JSON.stringify(unknown)}; the nearest is ${JSON.stringify(nearest(unknown, known))}`,
  );
}

function nearest(word: string, known: readonly string[]): string {
  const byDistance = known.map((candidate) => ({
    candidate,
    distance: editDistance(word.toLowerCase(), candidate.toLowerCase()),
  }));
  return byDistance.reduce((best, next) => (next.distance < best.distance ? next : best)).candidate;
}

/** Letters to insert, delete or replace. https://en.wikipedia.org/wiki/Levenshtein_distance */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return row[b.length]!;
}

export function integer(value: unknown, key: string, byDefault: number, min: number, max: number): number {
  if (value === undefined) return byDefault;
  if (Number.isInteger(value) && (value as number) >= min && (value as number) <= max) return value as number;
  throw invalid(key, `a whole number from ${min} to ${max}`, value);
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function invalid(key: string, expected: string, found: unknown): WalcastError {
  const shown =
    typeof found === "function" || typeof found === "symbol" ? typeof found : (JSON.stringify(found) ?? String(found));
  return new WalcastError(
    "config_invalid",
    `read the config: ${key}: expected ${expected}, found ${shown.slice(0, 100)}`,
  );
}
