/** A report of the server's. The page could ask its replica; this stands for what only a server can compute. */
import { formatClockSeconds, formatCount, formatShortMoney } from "./format.ts";
import { useReport } from "./report.ts";

const places = 5;

export function Bestsellers() {
  const report = useReport();
  return (
    <section className="card bestsellers" aria-labelledby="bestsellers-title" aria-busy={!report}>
      <div className="bestsellers-head">
        <h2 id="bestsellers-title">Bestsellers</h2>
        <p className="muted numbers" title="A report over HTTP, asked for again after commits that concern it.">
          {report ? `Fetched ${formatClockSeconds(report.fetchedAt)}` : "Being fetched"}
        </p>
      </div>
      <ol>
        {Array.from({ length: places }, (_, place) => {
          const found = report?.bestsellers[place];
          return (
            <li key={place}>
              <span className="clip">{found?.product ?? "–"}</span>
              <span className="muted numbers">
                {found ? `${formatCount(found.pieces)} pcs · ${formatShortMoney(found.revenue)}` : "–"}
              </span>
            </li>
          );
        })}
      </ol>
    </section>
  );
}
