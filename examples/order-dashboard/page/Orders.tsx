/** The orders, newest first, with the search over them. A live query: rows move because they moved in Postgres. */
import { useDeferredValue, useRef, useState } from "react";
import type { Status } from "../statuses.ts";
import { useFlash } from "./flash.ts";
import { formatCount } from "./format.ts";
import { useNow } from "./now.ts";
import { OrderButton } from "./NewOrders.tsx";
import { OrderLine } from "./OrderLine.tsx";
import { countOrders, newestOrders, type OrderRow } from "./orders-query.ts";
import { type Result, useRows } from "./rows.ts";

const pageRows = 100;

interface Chosen {
  readonly status: Status | undefined;
  readonly onAnyStatus: () => void;
}

export function Orders({ status, onAnyStatus }: Chosen) {
  const [text, setText] = useState("");
  const [limit, setLimit] = useState(pageRows);
  const search = useDeferredValue(text.trim());
  const orders = useRows<OrderRow>((db) => newestOrders(db, { search, status }, limit), [search, status, limit]);
  const found =
    useRows<{ orders: number }>((db) => countOrders(db, { search, status }), [search, status])?.rows[0]?.orders ?? 0;
  const shown = orders?.rows.length ?? 0;
  function showAll() {
    setText("");
    onAnyStatus();
  }
  return (
    <section className="card orders" aria-labelledby="orders-title">
      <div className="orders-head">
        <h2 id="orders-title">Orders</h2>
        <p className="muted numbers" role="status">
          {formatCount(found)}
          {search || status ? " found" : ""}
        </p>
        {status && (
          <button
            type="button"
            className="chip"
            data-status={status}
            onClick={onAnyStatus}
            aria-label={`Show every status, not only ${status}`}
          >
            <i className="dot" />
            {status}
            <svg viewBox="0 0 16 16" aria-hidden="true">
              <path d="M4.5 4.5l7 7M11.5 4.5l-7 7" />
            </svg>
          </button>
        )}
        <Search text={text} onChange={setText} />
        <OrderButton />
      </div>
      {orders && shown === 0 && <Nothing search={search} onShowAll={showAll} />}
      {orders && shown > 0 && <Table orders={orders} />}
      {shown > 0 && shown < found && (
        <button type="button" className="more" onClick={() => setLimit(limit + pageRows)}>
          Show {Math.min(pageRows, found - shown)} more
        </button>
      )}
    </section>
  );
}

function Search({ text, onChange }: { readonly text: string; readonly onChange: (text: string) => void }) {
  return (
    <label className="search">
      <svg viewBox="0 0 16 16" aria-hidden="true">
        <circle cx="7" cy="7" r="4.5" />
        <path d="M10.5 10.5L14 14" />
      </svg>
      <span className="hidden">Search orders</span>
      <input
        type="search"
        value={text}
        placeholder="Number, customer, city, status, product"
        autoComplete="off"
        spellCheck={false}
        onChange={(event) => onChange(event.target.value)}
      />
    </label>
  );
}

function Nothing({ search, onShowAll }: { readonly search: string; readonly onShowAll: () => void }) {
  return (
    <div className="nothing">
      <svg viewBox="0 0 48 48" aria-hidden="true">
        <circle cx="21" cy="21" r="12" />
        <path d="M30 30l9 9M16 21h10" />
      </svg>
      <p>
        <strong>{search ? `No order matches “${search}”` : "No orders here"}</strong>
      </p>
      <p className="muted">It appears as soon as there is one.</p>
      <button type="button" className="quiet" onClick={onShowAll}>
        Show all orders
      </button>
    </div>
  );
}

function Table({ orders }: { readonly orders: Result<OrderRow> }) {
  const body = useRef<HTMLTableSectionElement>(null);
  const now = useNow();
  useFlash(body, orders);
  return (
    // The roles are said aloud because narrow windows lay the rows out as cards, which takes the table's own away.
    <table role="table" aria-labelledby="orders-title">
      <thead role="rowgroup">
        <tr role="row">
          <th role="columnheader" scope="col">
            Order
          </th>
          <th role="columnheader" scope="col">
            Customer
          </th>
          <th role="columnheader" scope="col">
            Items
          </th>
          <th role="columnheader" scope="col">
            Placed
          </th>
          <th role="columnheader" scope="col" className="right">
            Amount
          </th>
          <th role="columnheader" scope="col">
            Status
          </th>
        </tr>
      </thead>
      <tbody role="rowgroup" ref={body}>
        {orders.rows.map((row) => (
          <OrderLine key={row.id} {...row} now={now} />
        ))}
      </tbody>
    </table>
  );
}
