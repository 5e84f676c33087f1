/**
 * Lights up the rows that really changed: those with other values than a moment ago, and orders newer than any before.
 * Rows that only moved, or came in sight through a filter, stay calm; so does everything for users who want less motion.
 */
import { type RefObject, useLayoutEffect, useRef } from "react";
import type { OrderRow } from "./orders-query.ts";
import type { Result } from "./rows.ts";

interface Seen {
  /** Rows of another query are no change. */
  readonly of: string;
  readonly newest: number;
  readonly rows: ReadonlyMap<number, OrderRow>;
}

export function useFlash(body: RefObject<HTMLElement | null>, orders: Result<OrderRow>): void {
  const seen = useRef<Seen>(undefined);
  useLayoutEffect(() => {
    const before = seen.current;
    const now = look(orders);
    seen.current = now;
    if (before?.of !== now.of) return;
    for (const id of changed(before, now)) flash(body.current?.querySelector(`[data-order-id="${id}"]`));
  }, [body, orders]);
}

function look({ rows, of }: Result<OrderRow>): Seen {
  return { of, newest: Math.max(0, ...rows.map(({ id }) => id)), rows: new Map(rows.map((row) => [row.id, row])) };
}

function changed(before: Seen, now: Seen): number[] {
  return [...now.rows.keys()].filter((id) => {
    const [then, row] = [before.rows.get(id), now.rows.get(id)];
    return then ? JSON.stringify(then) !== JSON.stringify(row) : id > before.newest;
  });
}

function flash(row: Element | null | undefined): void {
  if (!row || matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  const style = getComputedStyle(row);
  const colour = style.getPropertyValue("--flash");
  row.animate(
    [{ backgroundColor: colour }, { backgroundColor: colour, offset: 0.25 }, { backgroundColor: "transparent" }],
    { id: "flash", duration: 1_400, easing: "ease-out" },
  );
}
