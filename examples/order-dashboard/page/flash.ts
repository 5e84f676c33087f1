/**
 * Lights up the rows that really changed: those with other values than a moment ago, and orders newer than any before.
 * Rows that only moved, or came in sight through a filter, stay calm; so does everything for users who want less motion.
 */
import { type RefObject, useLayoutEffect, useRef } from "react";
import type { OrderRow } from "./orders-query.ts";

interface Seen {
  readonly filterKey: string;
  readonly newest: number;
  readonly values: ReadonlyMap<number, string>;
}

export function useFlash(body: RefObject<HTMLElement | null>, rows: readonly OrderRow[], filterKey: string): void {
  const seen = useRef<Seen>(undefined);
  useLayoutEffect(() => {
    const before = seen.current;
    const now = look(rows, filterKey);
    seen.current = now;
    if (before?.filterKey !== filterKey) return;
    for (const id of changed(before, now)) flash(body.current?.querySelector(`[data-order-id="${id}"]`));
  }, [body, rows, filterKey]);
}

function look(rows: readonly OrderRow[], filterKey: string): Seen {
  const values = new Map(rows.map((row) => [row.id, JSON.stringify(row)]));
  return { filterKey, newest: Math.max(0, ...values.keys()), values };
}

function changed(before: Seen, now: Seen): number[] {
  const isChanged = ([id, value]: [number, string]) => (before.values.has(id) ? before.values.get(id) !== value : id > before.newest);
  return [...now.values].filter(isChanged).map(([id]) => id);
}

function flash(row: Element | null | undefined): void {
  if (!row || matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  const style = getComputedStyle(row);
  const colour = style.getPropertyValue("--flash");
  row.animate([{ backgroundColor: colour }, { backgroundColor: colour, offset: 0.25 }, { backgroundColor: "transparent" }], { id: "flash", duration: 1_600, easing: "ease-out" });
}
