/** The current time for ages such as "3 min ago", renewed often enough for minutes. */
import { useEffect, useState } from "react";

const renewMs = 15_000;

export function useNow(): number {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), renewMs);
    return () => clearInterval(timer);
  }, []);
  return now;
}
