/** Reads Server-Sent Events as EventSource does, and sees what that hides: comments, headers, when it ends. */
import { until } from "../support/until.ts";

export interface ReadEvent {
  readonly event: string;
  readonly id: string | undefined;
  readonly data: unknown;
}

export class EventReader {
  readonly response: Response;
  readonly events: ReadEvent[] = [];
  comments = 0;
  isOver = false;
  private readonly aborting: AbortController;
  private taken = 0;

  private constructor(response: Response, aborting: AbortController) {
    this.response = response;
    this.aborting = aborting;
  }

  static async open(url: string, headers: Record<string, string> = {}): Promise<EventReader> {
    const aborting = new AbortController();
    const response = await fetch(url, {
      headers: { accept: "text/event-stream", ...headers },
      signal: aborting.signal,
    });
    const reader = new EventReader(response, aborting);
    if (response.ok) void reader.read();
    return reader;
  }

  /** The next that was not asked for yet. */
  async next(): Promise<ReadEvent> {
    await until(() => this.events.length > this.taken || this.isOver);
    const event = this.events[this.taken++];
    if (!event) throw new Error("the stream is over");
    return event;
  }

  /** Those up to and with the first of this name. */
  async upTo(name: string): Promise<ReadEvent[]> {
    const events: ReadEvent[] = [];
    do events.push(await this.next());
    while (events.at(-1)!.event !== name);
    return events;
  }

  close(): void {
    this.aborting.abort();
  }

  private async read(): Promise<void> {
    let text = "";
    try {
      for await (const chunk of this.response.body!.pipeThrough(new TextDecoderStream())) {
        const blocks = (text + chunk).split("\n\n");
        text = blocks.pop()!;
        for (const block of blocks) this.take(block);
      }
    } catch {
      // Cut off, or closed from here.
    }
    this.isOver = true;
  }

  private take(block: string): void {
    const fields = block
      .split("\n")
      .map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)]);
    const field = (name: string): string | undefined => fields.findLast(([key]) => key === name)?.[1];
    const data = fields.filter(([key]) => key === "data").map(([, value]) => value);
    if (data.length === 0) return void (this.comments += fields.filter(([key]) => key === "").length);
    this.events.push({ event: field("event") ?? "message", id: field("id"), data: parsed(data.join("\n")) });
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
