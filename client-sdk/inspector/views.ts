/** What the inspector shows, as tables of texts: of an inspection, and of nothing else. */
import type { Inspection } from "../index.ts";

export interface Cell {
  readonly text: string;
  /** In a second line. */
  readonly detail?: string | undefined;
  /** `code` is SQL; `number` stands to the right; the others are the names of states. */
  readonly look?: "code" | "number" | "good" | "busy" | "bad";
}

export interface View {
  readonly id: string;
  readonly label: string;
  readonly count: number;
  readonly columns: readonly string[];
  /** Columns of numbers. */
  readonly numbers: ReadonlySet<string>;
  readonly rows: readonly (readonly Cell[])[];
  /** Instead of no rows. */
  readonly empty: string;
}

export function viewsOf(inspection: Inspection): View[] {
  return [shapes(inspection), liveQueries(inspection), transactions(inspection), statuses(inspection)];
}

/** One line about all of it. */
export function summaryOf(inspection: Inspection): readonly (readonly [label: string, value: string])[] {
  const { position, connections, resumes, resyncs, refetches, storage } = inspection;
  const behind = lagOf(inspection);
  return [
    ["Position", position],
    ["Behind", behind === undefined ? "–" : bytesText(behind)],
    ["Connections", `${connections} (${resumes} resumed)`],
    ["Resyncs", String(resyncs)],
    ["Refetches", String(refetches)],
    ["Storage", `${storage.kind}, ${storage.status}`],
  ];
}

export function lookOfStatus(status: string): NonNullable<Cell["look"]> {
  if (status === "live" || status === "ready") return "good";
  return status === "offline" || status === "error" || status === "closed" ? "bad" : "busy";
}

function shapes({ shapes: list, channels }: Inspection): View {
  const rows = list.map((shape): Cell[] => [
    { text: shape.table, detail: conditionOf(shape), look: "code" },
    { text: shape.status, detail: shape.error?.message, look: lookOfStatus(shape.status) },
    count(shape.rows),
    number(bytesText(shape.bytes)),
    number(shape.position ?? "–"),
    number(shape.lagBytes === undefined ? "–" : bytesText(shape.lagBytes)),
  ]);
  const nothing = number("–");
  const events = channels.map((channel): Cell[] => [
    { text: channel.table, detail: conditionOf(channel), look: "code" },
    { text: `channel, ${channel.status}` },
    nothing,
    nothing,
    nothing,
    nothing,
  ]);
  return {
    ...view("shapes", "Shapes", ["Table", "Status", "Rows", "Size", "Position", "Behind"], [...rows, ...events]),
    empty: "Nothing is synchronised.",
  };
}

function liveQueries({ live }: Inspection): View {
  const rows = live.map((query): Cell[] => [
    { text: query.sql.replace(/\s+/g, " ").trim(), look: "code" },
    { text: query.status, look: lookOfStatus(query.status) },
    { text: query.mode, detail: query.why },
    count(query.rows),
    count(query.runs),
    count(query.merges),
    number(msText(query.lastRunMs)),
    number(msText(query.totalMs)),
  ]);
  const columns = ["Query", "Status", "Mode", "Rows", "Runs", "Merges", "Last", "Total"];
  return { ...view("live", "Live queries", columns, rows), empty: "No live query is open." };
}

function transactions({ lastTransactions, transactions: total }: Inspection): View {
  const rows = lastTransactions
    .toReversed()
    .map(({ at, position, tables, keys }): Cell[] => [
      { text: timeText(at) },
      { text: tables.map(plain).join(", ") || "–", look: "code" },
      number(keys === undefined ? "many" : keys.toLocaleString()),
      number(position),
    ]);
  const columns = ["At", "Tables", "Rows", "Position"];
  return { ...view("transactions", "Transactions", columns, rows), count: total, empty: "None yet." };
}

function statuses({ statusHistory, lastError }: Inspection): View {
  const rows = statusHistory
    .map(({ at, status }, i): Cell[] => {
      const until = statusHistory[i + 1]?.at;
      return [
        { text: timeText(at) },
        { text: status, look: lookOfStatus(status) },
        number(until ? msText(until.getTime() - at.getTime()) : "until now"),
      ];
    })
    .toReversed();
  const error: Cell[][] = lastError
    ? [[{ text: "last error" }, { text: lastError.code, detail: lastError.message, look: "bad" }, number("")]]
    : [];
  return {
    ...view("status", "Status", ["At", "Status", "For"], [...error, ...rows]),
    empty: "Nothing has happened yet.",
  };
}

const numeric = new Set(["Rows", "Size", "Position", "Behind", "Runs", "Merges", "Last", "Total", "For"]);

function view(id: string, label: string, columns: readonly string[], rows: View["rows"]): Omit<View, "empty"> {
  return { id, label, count: rows.length, columns, numbers: numeric, rows };
}

function lagOf({ shapes: list }: Inspection): number | undefined {
  const lags = list.flatMap(({ lagBytes }) => (lagBytes === undefined ? [] : [lagBytes]));
  return lags.length === 0 ? undefined : Math.max(...lags);
}

function conditionOf({ where, params }: { where?: string; params?: readonly unknown[] }): string | undefined {
  if (where === undefined) return undefined;
  return params && params.length > 0 ? `where ${where} · ${JSON.stringify(params)}` : `where ${where}`;
}

/** `"public"."orders"` → `orders`. */
function plain(table: string): string {
  return table.replace(/^"public"\./, "").replace(/^"([a-z_][a-z0-9_]*)"$/, "$1");
}

function count(value: number): Cell {
  return number(value.toLocaleString());
}

function number(text: string): Cell {
  return { text, look: "number" };
}

function bytesText(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB"];
  let power = 0;
  for (; bytes >= 1024 && power < units.length - 1; power++) bytes /= 1024;
  return `${bytes.toFixed(power === 0 || bytes >= 100 ? 0 : 1)} ${units[power]}`;
}

function msText(ms: number): string {
  if (ms >= 120_000) return `${Math.round(ms / 60_000)} min`;
  if (ms >= 1000) return `${(ms / 1000).toFixed(1)} s`;
  return `${ms.toFixed(ms < 10 ? 2 : 0)} ms`;
}

function timeText(at: Date): string {
  return `${at.toLocaleTimeString("en-GB")}.${String(at.getMilliseconds()).padStart(3, "0")}`;
}
