/** The bars, their axes, and what one says when it is pointed at. Drawn at the size it has, so that text stays sharp. */
import { type RefObject, useLayoutEffect, useRef, useState } from "react";
import { axisTicks, type Bucket } from "./chart.ts";
import { formatClock, formatCount, formatDayAndClock, formatShortMoney, formatWholeMoney } from "./format.ts";

interface Chart {
  readonly buckets: readonly Bucket[];
  readonly stepMs: number;
  readonly title: string;
}

const edge = { top: 10, right: 4, bottom: 24, left: 44 };

export function RevenueChart({ buckets, stepMs, title }: Chart) {
  const frame = useRef<HTMLDivElement>(null);
  const { width, height } = useSize(frame);
  const [pointed, setPointed] = useState<number>();
  const ticks = axisTicks(Math.max(...buckets.map(({ revenue }) => revenue)));
  const top = ticks.at(-1)!;
  const slot = Math.max(0, width - edge.left - edge.right) / buckets.length;
  const y = (revenue: number) => edge.top + (1 - revenue / top) * (height - edge.top - edge.bottom);
  const x = (index: number) => edge.left + index * slot;
  const indexAt = (clientX: number) => {
    const index = Math.floor((clientX - frame.current!.getBoundingClientRect().left - edge.left) / slot);
    return index >= 0 && index < buckets.length ? index : undefined;
  };
  return (
    <div
      className="chart"
      ref={frame}
      onPointerMove={(event) => setPointed(indexAt(event.clientX))}
      onPointerLeave={() => setPointed(undefined)}
    >
      {width > 0 && (
        <svg width={width} height={height} role="img" aria-label={inWords(title, buckets)}>
          {ticks.map((tick) => (
            <g key={tick}>
              <line
                className={tick === 0 ? "chart-base" : "chart-grid"}
                x1={edge.left}
                x2={width - edge.right}
                y1={y(tick)}
                y2={y(tick)}
              />
              <text className="chart-label" x={edge.left - 8} y={y(tick) + 4} textAnchor="end">
                {formatShortMoney(tick)}
              </text>
            </g>
          ))}
          {buckets.map(({ start, revenue }, i) => (
            <g key={start}>
              <path className={barClass(i, buckets.length, pointed)} d={bar(x(i), y(revenue), slot, y(0))} />
              {hasLabel(start, stepMs, slot) && x(i) + labelPx / 4 < width && (
                <text className="chart-label" x={x(i) + slot / 2} y={height - 6} textAnchor="middle">
                  {timeLabel(start, stepMs)}
                </text>
              )}
            </g>
          ))}
        </svg>
      )}
      {pointed !== undefined && (
        <Tip
          bucket={buckets[pointed]!}
          stepMs={stepMs}
          x={x(pointed) + slot / 2}
          isLeft={pointed > buckets.length / 2}
        />
      )}
    </div>
  );
}

function Tip({
  bucket,
  stepMs,
  x,
  isLeft,
}: {
  readonly bucket: Bucket;
  readonly stepMs: number;
  readonly x: number;
  readonly isLeft: boolean;
}) {
  const time = new Date(bucket.start);
  return (
    <div className={isLeft ? "tip tip-left" : "tip"} style={{ left: x }}>
      <span className="muted">{stepMs < hourMs ? formatClock(time) : formatDayAndClock(time)}</span>
      <strong className="numbers">{formatWholeMoney(bucket.revenue)}</strong>
      <span className="muted numbers">
        {formatCount(bucket.orders)} {bucket.orders === 1 ? "order" : "orders"}
      </span>
    </div>
  );
}

/** A bar with a rounded head, standing on the axis. */
function bar(left: number, top: number, slot: number, base: number): string {
  const width = Math.max(1, slot * 0.72);
  const from = left + (slot - width) / 2;
  const radius = Math.min(3, width / 2, base - top);
  return `M${from} ${base}V${top + radius}q0 ${-radius} ${radius} ${-radius}h${width - 2 * radius}q${radius} 0 ${radius} ${radius}V${base}Z`;
}

function barClass(index: number, count: number, pointed: number | undefined): string {
  if (index === pointed) return "bar bar-pointed";
  return index === count - 1 ? "bar bar-newest" : "bar";
}

const hourMs = 3_600_000;
const labelPx = 74;

/** At round times, as many as there is room for. */
function hasLabel(start: number, stepMs: number, slot: number): boolean {
  const steps = stepMs < hourMs ? [5, 10, 15, 20, 30] : [4, 6, 12, 24];
  const every = steps.find((step) => step * slot >= labelPx) ?? steps.at(-1)!;
  const local = start - new Date(start).getTimezoneOffset() * 60_000;
  return (local / stepMs) % every === 0;
}

function timeLabel(start: number, stepMs: number): string {
  return stepMs < hourMs ? formatClock(new Date(start)) : formatDayAndClock(new Date(start));
}

function inWords(title: string, buckets: readonly Bucket[]): string {
  const best = buckets.reduce((a, b) => (b.revenue > a.revenue ? b : a));
  const total = buckets.reduce((sum, { revenue }) => sum + revenue, 0);
  return `${title}: ${formatWholeMoney(total)}, at most ${formatWholeMoney(best.revenue)} at ${formatDayAndClock(new Date(best.start))}`;
}

function useSize(element: RefObject<HTMLElement | null>): { readonly width: number; readonly height: number } {
  const [size, setSize] = useState({ width: 0, height: 0 });
  useLayoutEffect(() => {
    const observer = new ResizeObserver(([entry]) => {
      const { width, height } = entry!.contentRect;
      setSize({ width, height });
    });
    observer.observe(element.current!);
    return () => observer.disconnect();
  }, [element]);
  return size;
}
