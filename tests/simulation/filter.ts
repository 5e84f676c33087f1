/** Which rows of a table a client asks for, and which of those it gets. */
import { regions } from "./columns.ts";

export interface Filter {
  readonly where?: string;
  readonly params?: readonly unknown[];
}

/** What a client asks for. */
export interface Asked extends Filter {
  /** As in SQL, with its schema. */
  readonly table: string;
  /** All of the table's where it is undefined. */
  readonly columns?: readonly string[];
}

/** What a client's token lets it read of any table: the rows of these regions. */
export type Access = readonly string[];

/** Whoever may read the rows of all regions may read all rows: so says the rule. */
export const everything: Access = regions;

/** The filter's rows that may be read. */
export function within(access: Access, { where = "true", params = [] }: Filter): Filter {
  if (access.length === everything.length) return { where, params };
  return { where: `(${where}) and region = any($${params.length + 1})`, params: [...params, access] };
}

/** The rows that any of them keeps. */
export function anyOf(filters: readonly Filter[]): Required<Filter> {
  const params: unknown[] = [];
  const parts = filters.map((filter) => {
    const offset = params.length;
    params.push(...(filter.params ?? []));
    const shifted = (filter.where ?? "true").replaceAll(/\$(\d+)/g, (_, n: string) => `$${Number(n) + offset}`);
    return `((${shifted}) is true)`;
  });
  return { where: parts.join(" or "), params };
}
