/** A line chart as SVG, small enough to be read as text. Its colours follow whoever looks at it: light, or dark where that is preferred. */
export interface Chart {
  readonly title: string;
  readonly x: Axis;
  readonly y: Axis;
  readonly series: readonly Series[];
}

interface Axis {
  readonly label: string;
  readonly scale: "linear" | "log";
}

export interface Series {
  readonly name: string;
  readonly points: readonly Point[];
}

type Point = readonly [x: number, y: number];

const size = { width: 720, height: 400 } as const;
const inner = { left: 72, right: 672, top: 48, bottom: 320 } as const;
const legendLine = 18;
const style = `
    svg { --paper: #ffffff; --ink: #1f2328; --faint: #d0d7de; --s0: #0969da; --s1: #8c959f; --s2: #bf3989; --s3: #1a7f37; --s4: #9a6700; --s5: #8250df }
    @media (prefers-color-scheme: dark) {
      svg { --paper: #0d1117; --ink: #e6edf3; --faint: #30363d; --s0: #4493f8; --s1: #7d8590; --s2: #f778ba; --s3: #3fb950; --s4: #d29922; --s5: #a371f7 }
    }
    text { fill: var(--ink); font: 12px system-ui, sans-serif }
    .title { font-size: 15px; font-weight: 600 }
    .grid { stroke: var(--faint); stroke-width: 1 }
    .line { fill: none; stroke-width: 2 }`;

export function svgOf({ title, x, y, series: given }: Chart): string {
  // A logarithm has no place for what is not positive, such as the lateness of what came before its acknowledgement.
  const fits = ([across, up]: Point): boolean => (x.scale !== "log" || across > 0) && (y.scale !== "log" || up > 0);
  const series = given.map(({ name, points }) => ({ name, points: points.filter(fits) }));
  const points = series.flatMap((one) => one.points);
  const across = scaleOf(
    x,
    points.map(([at]) => at),
    [inner.left, inner.right],
  );
  const up = scaleOf(
    y,
    points.map(([, at]) => at),
    [inner.bottom, inner.top],
  );
  const height = size.height + Math.ceil(series.length / 2) * legendLine;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${size.width} ${height}" role="img" aria-label="${escaped(title)}">`,
    `  <style>${style}\n  </style>`,
    `  <rect width="${size.width}" height="${height}" fill="var(--paper)"/>`,
    text(inner.left, 26, title, 'class="title"'),
    ...across.ticks.flatMap((tick) => vertical(across.at(tick), label(tick))),
    ...up.ticks.flatMap((tick) => horizontal(up.at(tick), label(tick))),
    text((inner.left + inner.right) / 2, inner.bottom + 40, x.label, 'text-anchor="middle"'),
    text(16, (inner.top + inner.bottom) / 2, y.label, middleTurned(16, (inner.top + inner.bottom) / 2)),
    ...series.flatMap((one, index) => drawn(one, index, across.at, up.at)),
    "</svg>",
    "",
  ].join("\n");
}

interface Scale {
  readonly at: (value: number) => number;
  readonly ticks: readonly number[];
}

function scaleOf({ scale }: Axis, values: readonly number[], [from, to]: readonly [number, number]): Scale {
  const ticks = scale === "log" ? powers(values) : steps(values);
  const [first, last] = [ticks[0]!, ticks.at(-1)!];
  const of = scale === "log" ? Math.log10 : (value: number): number => value;
  const share = (value: number): number => (of(value) - of(first)) / (of(last) - of(first));
  return { at: (value) => Math.round((from + share(value) * (to - from)) * 10) / 10, ticks };
}

/** Powers of ten around the values. */
function powers(values: readonly number[]): number[] {
  const logs = values.length === 0 ? [0] : values.map(Math.log10);
  const first = Math.floor(Math.min(...logs));
  const last = Math.max(first + 1, Math.ceil(Math.max(...logs)));
  return Array.from({ length: last - first + 1 }, (_, index) => 10 ** (first + index));
}

/** Round numbers from zero, or below, to above the highest. */
function steps(values: readonly number[]): number[] {
  const [lowest, highest] = [Math.min(0, ...values), Math.max(1e-9, ...values)];
  const power = 10 ** Math.floor(Math.log10((highest - lowest) / 4));
  const step = [1, 2, 5, 10].map((times) => times * power).find((found) => (highest - lowest) / found <= 6)!;
  const first = Math.floor(lowest / step);
  return Array.from({ length: Math.ceil(highest / step) - first + 1 }, (_, index) => (first + index) * step);
}

function drawn({ name, points }: Series, index: number, across: Scale["at"], up: Scale["at"]): string[] {
  const colour = `var(--s${index % 6})`;
  const path = points.map(([x, y]) => `${across(x)},${up(y)}`).join(" ");
  const [left, top] = [inner.left + (index % 2) * 310, inner.bottom + 62 + Math.floor(index / 2) * legendLine];
  return [
    `  <polyline class="line" stroke="${colour}" points="${path}"/>`,
    ...points.map(([x, y]) => `  <circle cx="${across(x)}" cy="${up(y)}" r="3" fill="${colour}"/>`),
    `  <rect x="${left}" y="${top - 9}" width="12" height="9" fill="${colour}"/>`,
    text(left + 18, top, name),
  ];
}

function vertical(x: number, name: string): string[] {
  return [
    `  <line class="grid" x1="${x}" y1="${inner.top}" x2="${x}" y2="${inner.bottom}"/>`,
    text(x, inner.bottom + 18, name, 'text-anchor="middle"'),
  ];
}

function horizontal(y: number, name: string): string[] {
  return [
    `  <line class="grid" x1="${inner.left}" y1="${y}" x2="${inner.right}" y2="${y}"/>`,
    text(inner.left - 8, y + 4, name, 'text-anchor="end"'),
  ];
}

function middleTurned(x: number, y: number): string {
  return `text-anchor="middle" transform="rotate(-90 ${x} ${y})"`;
}

function text(x: number, y: number, content: string, attributes = ""): string {
  return `  <text x="${x}" y="${y}"${attributes && ` ${attributes}`}>${escaped(content)}</text>`;
}

function label(value: number): string {
  return Number(value.toPrecision(6)).toLocaleString("en-US", { maximumSignificantDigits: 6 });
}

function escaped(content: string): string {
  return content.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");
}
