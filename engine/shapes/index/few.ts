/** Some values: mostly one, and a Set for each of those would be the larger part of what holds it. T is no Set itself. */
export type Few<T> = T | Set<T> | undefined;

export function withOne<T>(few: Few<T>, value: T): Few<T> {
  if (few instanceof Set) return few.add(value);
  return few === undefined || few === value ? value : new Set([few, value]);
}

/** undefined where nothing is left. */
export function withoutOne<T>(few: Few<T>, value: T): Few<T> {
  if (few instanceof Set) return few.delete(value) && few.size === 0 ? undefined : few;
  return few === value ? undefined : few;
}
