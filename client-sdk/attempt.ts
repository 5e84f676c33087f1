import { sqlStateOf } from "./query-errors.ts";

/** What several queries gave together. Whatever fails in it fails again where each of them runs by itself, and belongs to one of them. */
export function attempt<Results>(work: () => Results | undefined): Results | undefined {
  try {
    return work();
  } catch (error) {
    if (sqlStateOf(error) === undefined) throw error;
    return undefined;
  }
}
