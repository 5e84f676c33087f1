/**
 * How long nothing has come. An operating system may take many minutes to notice that nobody is at the other end, so the
 * server says something at a rhythm, and is asked when it does not.
 */
import { WalcastError } from "../engine/protocol.ts";
import type { Edge } from "./edge.ts";

// One position may be late or lost with a packet; after two the server is asked, and has half of one more to answer. That is also
// how long frames may wait behind the timers of a thread that slept or was busy.
const QUIET_FACTOR = 2;
const ANSWER_FACTOR = 0.5;
const ANSWER_MS_MIN = 100;

export class Silence {
  private readonly edge: Edge;
  private everyMs = Infinity;
  private heardMs = 0;

  constructor(edge: Edge) {
    this.edge = edge;
  }

  /** The server has promised to say something at this rhythm. */
  expect(everyMs: number): void {
    this.everyMs = everyMs;
  }

  heard(): void {
    this.heardMs = this.edge.now();
  }

  /** Until the server is to be asked. */
  get leftMs(): number {
    return Math.max(0, this.everyMs * QUIET_FACTOR - this.lastsMs);
  }

  /** For the answer. */
  get answerMs(): number {
    return Math.max(this.everyMs * ANSWER_FACTOR, ANSWER_MS_MIN);
  }

  get error(): WalcastError {
    return new WalcastError(
      "connection_lost",
      `keep the connection open: heard nothing for ${Math.round(this.lastsMs)} ms, expected a position in every ${this.everyMs} ms and an answer to a ping`,
    );
  }

  private get lastsMs(): number {
    return this.edge.now() - this.heardMs;
  }
}
