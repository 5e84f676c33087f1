/**
 * Rows for a page that a server renders, from which its client goes on. A seed is what a client would have after its first
 * connection: rows of all shapes at one position, and the identities by which the server knows them again.
 */
import type { Auth } from "../authenticate.ts";
import { type ErrorCode, WalcastError } from "../errors.ts";
import { formatLsn, type Seed, type SeedShape, type ShapeRequest } from "../protocol.ts";
import { describeShape } from "../shapes/shape.ts";
import { Reader } from "./reader.ts";
import type { Watches } from "./watches.ts";

/** A table may change while it is read. */
const attempts = 5;
const passing: ReadonlySet<ErrorCode> = new Set<ErrorCode>(["schema_changed", "access_changed", "snapshot_failed"]);

/** `address`: of whom it is for, where that is known. */
export async function seedOf<Name extends string>(
  watches: Watches,
  epoch: () => string,
  shapes: Readonly<Record<Name, ShapeRequest>>,
  auth: Auth,
  address?: string,
): Promise<Seed<Name>> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await readSeed(watches, epoch, shapes, auth, address);
    } catch (error) {
      if (!(error instanceof WalcastError) || !passing.has(error.code) || attempt === attempts) throw error;
    }
  }
}

async function readSeed<Name extends string>(
  watches: Watches,
  epoch: () => string,
  shapes: Readonly<Record<Name, ShapeRequest>>,
  auth: Auth,
  address: string | undefined,
): Promise<Seed<Name>> {
  const { hub, config } = watches.services;
  const leaving = new AbortController();
  const asker = watches.asker(leaving.signal, address);
  const names = Object.keys(shapes) as Name[];
  const whole = Promise.withResolvers<Seed<Name>>();
  const reader: Reader = new Reader(
    hub,
    names.map((name) => () => watches.resolve(shapes[name], auth, asker)),
    {
      onLoading: () => reader.bytes > config.limits.watchBytes && whole.reject(tooLarge(config.limits.watchBytes)),
      onReady: () => whole.resolve(seedFrom(reader, epoch(), shapes)),
      onCommit: () => {},
      onAltered: () => {},
      onOver: (reason) => whole.reject(reason),
    },
  );
  reader.start();
  if (names.length === 0)
    whole.resolve(embeddable({ epoch: epoch(), position: formatLsn(hub.position), shapes: {} as never }));
  try {
    return await whole.promise;
  } finally {
    reader.close();
    leaving.abort();
  }
}

function seedFrom<Name extends string>(
  reader: Reader,
  epoch: string,
  shapes: Readonly<Record<Name, ShapeRequest>>,
): Seed<Name> {
  const entries = Object.entries<ShapeRequest>(shapes).map(([name, { table, where, params, columns }], index) => {
    const request: ShapeRequest = {
      table,
      ...(where === undefined ? {} : { where }),
      ...(params === undefined ? {} : { params }),
      ...(columns === undefined ? {} : { columns }),
    };
    const shape: SeedShape = {
      request,
      table: describeShape(reader.shape(index)),
      rows: [...reader.rows(index).values()],
    };
    return [name, shape] as const;
  });
  return embeddable({
    epoch,
    position: formatLsn(reader.position),
    shapes: Object.fromEntries(entries) as Record<Name, SeedShape>,
  });
}

/** As text it ends no script element, and no line where JavaScript would see an end. */
function embeddable<Name extends string>(seed: Seed<Name>): Seed<Name> {
  const asText = (): string =>
    JSON.stringify(seed).replace(
      /[<\u2028\u2029]/g,
      (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`,
    );
  return Object.defineProperty(seed, "toString", { value: asText });
}

function tooLarge(bytesMax: number): WalcastError {
  return new WalcastError("too_large", `seed: expected rows of at most ${bytesMax} bytes`, {
    hint: "seed what the first screen shows; the client loads the rest",
  });
}
