/** Numbers and times as this browser's user writes them. */
const euros = new Intl.NumberFormat(undefined, { style: "currency", currency: "EUR" });
const wholeEuros = new Intl.NumberFormat(undefined, { style: "currency", currency: "EUR", maximumFractionDigits: 0 });
const shortEuros = new Intl.NumberFormat(undefined, {
  style: "currency",
  currency: "EUR",
  notation: "compact",
  maximumSignificantDigits: 3,
});
const whole = new Intl.NumberFormat();
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const clockSeconds = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const dayAndClock = new Intl.DateTimeFormat(undefined, { weekday: "short", hour: "2-digit", minute: "2-digit" });
const dateAndClock = new Intl.DateTimeFormat(undefined, {
  day: "numeric",
  month: "short",
  hour: "2-digit",
  minute: "2-digit",
});
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "long", timeStyle: "medium" });

export const formatMoney = (amount: number) => euros.format(amount);
export const formatWholeMoney = (amount: number) => wholeEuros.format(amount);
export const formatShortMoney = (amount: number) => shortEuros.format(amount);
export const formatCount = (count: number) => whole.format(count);
export const formatClock = (time: Date) => clock.format(time);
export const formatClockSeconds = (time: Date) => clockSeconds.format(time);
export const formatDayAndClock = (time: Date) => dayAndClock.format(time);
export const formatExactTime = (time: Date) => exact.format(time);

const minuteMs = 60_000;
const hourMs = 60 * minuteMs;
const dayMs = 24 * hourMs;

/** "just now", "12 min ago", then the time of day, then the date: the nearer, the more it matters how near. */
export function formatAge(time: Date, now: number): string {
  const age = now - time.getTime();
  if (age < minuteMs) return "just now";
  if (age < hourMs) return `${Math.floor(age / minuteMs)} min ago`;
  if (age < 6 * dayMs) return dayAndClock.format(time);
  return dateAndClock.format(time);
}
