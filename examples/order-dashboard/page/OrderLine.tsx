/** One order. Renders again only when something of it changed. */
import { memo } from "react";
import { formatAge, formatExactTime, formatMoney } from "./format.ts";
import type { OrderRow } from "./orders-query.ts";
import { StatusSelect } from "./StatusSelect.tsx";

function Line({
  id,
  status,
  amount,
  created_at,
  customer,
  city,
  pieces,
  product,
  now,
}: OrderRow & { readonly now: number }) {
  return (
    <tr role="row" className="order" data-order-id={id} data-status={status}>
      <td role="cell" className="order-id numbers">
        #{id}
      </td>
      <td role="cell" className="order-customer">
        <span className="clip">{customer}</span>
        <span className="muted clip">{city}</span>
      </td>
      <td role="cell" className="order-items">
        <span className="clip">{product ?? "No items"}</span>
        {pieces > 1 && <span className="pieces numbers">{pieces} pcs</span>}
      </td>
      <td role="cell" className="order-age muted numbers">
        <time dateTime={created_at.toISOString()} title={formatExactTime(created_at)}>
          {formatAge(created_at, now)}
        </time>
      </td>
      <td role="cell" className="order-amount right numbers">
        {formatMoney(Number(amount))}
      </td>
      <td role="cell" className="order-status">
        <StatusSelect id={id} status={status} />
      </td>
    </tr>
  );
}

export const OrderLine = memo(
  Line,
  (a, b) =>
    a.status === b.status &&
    a.amount === b.amount &&
    a.customer === b.customer &&
    a.city === b.city &&
    a.pieces === b.pieces &&
    a.product === b.product &&
    formatAge(a.created_at, a.now) === formatAge(b.created_at, b.now),
);
