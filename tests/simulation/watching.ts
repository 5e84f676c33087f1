/** A client under observation, wherever it runs. */
import type { Lsn } from "../../engine/protocol.ts";
import type { Asked } from "./filter.ts";
import type { Observation } from "./observer.ts";

/** That rows which were complete had to come again. */
export interface Refetch extends Asked {
  readonly client: string;
  /** Where the client was when it began, and when the rows were complete again. */
  readonly from: Lsn;
  readonly to: Lsn;
  /** In between a token was handed out that says something else than the one before. */
  readonly hadOtherToken: boolean;
}

/** What an earlier life of a client has left of a shape, if anything. */
export interface Earlier {
  /** Its rows were complete there. They need not come again. */
  readonly completeAt?: Lsn | undefined;
  /** They were, until there, and have not come again since: what made that necessary came after it. */
  readonly incompleteFrom?: Lsn | undefined;
}

/** What the simulation asks of a client, wherever it runs. */
export interface Watching {
  readonly name: string;
  readonly tables: ReadonlySet<string>;
  takeObservations(): Observation[];
  takeRefetches(): Refetch[];
  hasReached(position: Lsn): boolean;
  describe(): string;
  close(): Promise<void>;
}
