/**
 * What a request that wants a WebSocket says of where it comes from: the page, the address, the cookie. A browser sends a
 * site's cookies whichever page connects, and connects to this machine for any page: so pages are told apart by their origin.
 * https://datatracker.ietf.org/doc/html/rfc6455#section-10.2
 */
import { type Config, isLoopback } from "../config.ts";
import type { HttpRequest, HttpResponse } from "./uws.ts";

export interface Visitor {
  /** Of the page; absent where it is no browser. */
  readonly origin: string | undefined;
  readonly address: string;
  /** Of the `Authorization` header, or from the cookie that the config names. */
  readonly token: string | undefined;
}

export function visitorOf(res: HttpResponse, req: HttpRequest, config: Config): Visitor {
  const { addressHeader, tokenCookie } = config;
  // A proxy appends whom it talks to; what stands before that anybody may have written.
  const forwarded = addressHeader === undefined ? "" : req.getHeader(addressHeader).split(",").at(-1)!.trim();
  return {
    origin: req.getHeader("origin") || undefined,
    address: network(forwarded || Buffer.from(res.getRemoteAddressAsText()).toString()),
    token: bearer(req.getHeader("authorization")) ?? (tokenCookie && cookie(req.getHeader("cookie"), tokenCookie)),
  };
}

/** Without a list, every page may connect; but where everybody may do everything, only this machine's own. */
export function mayConnect(
  { origin }: Pick<Visitor, "origin">,
  { origins, ...config }: Pick<Config, "origins" | "tables" | "topics">,
): boolean {
  if (origin === undefined || origins?.includes("*")) return true;
  if (origins) return origins.includes(origin);
  return !isOpen(config) || isLocalPage(origin);
}

/** Everybody on this machine may read everything, or say anything. */
export function isOpen({ tables, topics }: Pick<Config, "tables" | "topics">): boolean {
  return tables === "all" || topics === "all";
}

export function isLocalPage(origin: string): boolean {
  return URL.canParse(origin) && isLocal(new URL(origin).hostname);
}

function isLocal(hostname: string): boolean {
  return isLoopback(hostname.replace(/^\[|\]$/g, "")) || hostname.endsWith(".localhost");
}

/** Whoever has one IPv6 address has 2^64 of them. The library writes all eight groups. */
function network(address: string): string {
  const groups = address.split(":");
  if (groups.length !== 8) return address;
  const isMapped = groups.slice(0, 5).every((group) => /^0*$/.test(group));
  return isMapped ? address : groups.slice(0, 4).join(":");
}

/** https://datatracker.ietf.org/doc/html/rfc6750#section-2.1 */
function bearer(header: string): string | undefined {
  return /^Bearer +(\S+)$/i.exec(header)?.[1];
}

/** https://datatracker.ietf.org/doc/html/rfc6265#section-4.2.1 */
function cookie(header: string, name: string): string | undefined {
  for (const pair of header.split(";")) {
    const at = pair.indexOf("=");
    if (at > 0 && pair.slice(0, at).trim() === name)
      return pair
        .slice(at + 1)
        .trim()
        .replace(/^"(.*)"$/, "$1");
  }
  return undefined;
}
