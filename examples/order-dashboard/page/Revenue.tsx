/** Revenue by minute or by hour, up to the newest order: a live aggregate, drawn by hand. */
import { useLiveQuery } from "@walcast/client/react";
import { useState } from "react";
import { type Bucket, withoutGaps } from "./chart.ts";
import { formatCount, formatWholeMoney } from "./format.ts";
import { RevenueChart } from "./RevenueChart.tsx";

const windows = {
  minute: { title: "Revenue, last hour", stepMs: 60_000, count: 60 },
  hour: { title: "Revenue, last 2 days", stepMs: 3_600_000, count: 48 },
} as const;

type Step = keyof typeof windows;

export function Revenue() {
  const [step, setStep] = useState<Step>("minute");
  const { title, stepMs, count } = windows[step];
  const { rows } = useLiveQuery<Bucket>(revenueSql(stepMs, count));
  const buckets = withoutGaps(rows, stepMs, count);
  return (
    <section className="card revenue" aria-labelledby="revenue-title">
      <div className="revenue-head">
        <div>
          <h2 id="revenue-title" className="muted">
            {title}
          </h2>
          <p className="numbers">
            <strong className="revenue-sum">{formatWholeMoney(sum(buckets, "revenue"))}</strong>{" "}
            <span className="muted">{formatCount(sum(buckets, "orders"))} orders</span>
          </p>
        </div>
        <StepChoice step={step} onChange={setStep} />
      </div>
      <RevenueChart buckets={buckets} stepMs={stepMs} title={title} />
    </section>
  );
}

/** Buckets start at whole minutes or hours; cancelled orders brought nothing. */
function revenueSql(stepMs: number, count: number): string {
  const bucket = `floor(extract(epoch FROM created_at) * 1000 / ${stepMs})::float8 * ${stepMs}`;
  return `
    SELECT ${bucket} AS start, coalesce(sum(amount) FILTER (WHERE status <> 'cancelled'), 0)::float8 AS revenue, count(*)::int AS orders
    FROM orders
    WHERE created_at > (SELECT max(created_at) FROM orders) - interval '${(stepMs * count) / 1000} seconds'
    GROUP BY 1 ORDER BY 1`;
}

function sum(buckets: readonly Bucket[], field: "revenue" | "orders"): number {
  return buckets.reduce((total, bucket) => total + bucket[field], 0);
}

function StepChoice({ step, onChange }: { readonly step: Step; readonly onChange: (step: Step) => void }) {
  return (
    <div className="segments" role="group" aria-label="Bars">
      {(Object.keys(windows) as Step[]).map((choice) => (
        <button key={choice} type="button" aria-pressed={choice === step} onClick={() => onChange(choice)}>
          <span className="wide-only">By </span>
          {choice}
        </button>
      ))}
    </div>
  );
}
