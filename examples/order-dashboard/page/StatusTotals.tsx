/** How many orders are where, and what they are worth. Each total is also the filter for its orders. */
import { useLiveQuery } from "@walcast/client/react";
import { type Status, statuses } from "../statuses.ts";
import { formatCount, formatShortMoney } from "./format.ts";

interface Total {
  readonly status: Status;
  readonly orders: number;
  readonly amount: number;
}

const totals = "SELECT status, count(*)::int AS orders, sum(amount)::float8 AS amount FROM orders GROUP BY status";

interface Choice {
  readonly chosen: Status | undefined;
  readonly onChoose: (status: Status | undefined) => void;
}

export function StatusTotals({ chosen, onChoose }: Choice) {
  const { rows } = useLiveQuery<Total>(totals);
  const byStatus = new Map(rows.map((row) => [row.status, row]));
  return (
    <div className="totals" role="group" aria-label="Orders by status">
      {statuses.map((status) => {
        const { orders = 0, amount = 0 } = byStatus.get(status) ?? {};
        const isChosen = chosen === status;
        return (
          <button
            key={status}
            type="button"
            className="card total"
            data-status={status}
            aria-pressed={isChosen}
            onClick={() => onChoose(isChosen ? undefined : status)}
          >
            <span className="total-name">
              <i className="dot" />
              {status}
            </span>
            <span className="total-count numbers">{formatCount(orders)}</span>
            <span className="total-amount muted numbers">{formatShortMoney(amount)}</span>
          </button>
        );
      })}
    </div>
  );
}
