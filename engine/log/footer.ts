/**
 * The footer of a segment's file, written when it is sealed: its index, so that nobody has to read it through.
 *
 *     the index as JSON · its length u32 · its CRC-32 u32, begun with the segment's salt · magic
 */
import type { FileHandle } from "node:fs/promises";
import { crc32 } from "node:zlib";
import type { Lsn } from "../protocol.ts";
import type { Chunk } from "./chunks.ts";
import { readAt } from "./disk.ts";
import type { Segment, SegmentState } from "./segment.ts";

const footerMagic = "walcast\n";
const trailerBytes = 16;

interface Footer {
  readonly sealedAt: number;
  readonly history: string;
  readonly end: string;
  readonly recorded: string;
  readonly seenEnd: string;
  readonly larges: readonly { readonly position: string; readonly length: number }[];
  readonly relations: readonly string[];
  readonly chunks: readonly {
    readonly offset: number;
    readonly length: number;
    readonly crc: number;
    readonly end: string;
    readonly tables: readonly number[];
  }[];
}

export function encodeFooter({ state, relations, chunks, header }: Segment, sealedAt: number): Buffer {
  const footer: Footer = {
    sealedAt,
    history: state.history,
    end: String(state.end),
    recorded: String(state.recorded),
    seenEnd: String(state.seenEnd),
    larges: state.larges.map(({ position, length }) => ({ position: String(position), length })),
    relations: relations.texts,
    chunks: chunks.all.map((chunk) => ({ ...chunk, end: String(chunk.end), tables: [...chunk.tables] })),
  };
  const json = Buffer.from(JSON.stringify(footer));
  const trailer = Buffer.alloc(trailerBytes);
  trailer.writeUInt32LE(json.length, 0);
  trailer.writeUInt32LE(crc32(json, header.salt), 4);
  trailer.write(footerMagic, 8);
  return Buffer.concat([json, trailer]);
}

export interface FoundFooter {
  readonly state: SegmentState;
  readonly chunks: Chunk[];
  readonly relations: readonly string[];
  readonly sealedAt: number;
}

/** Reads it from the end of a file of `size` bytes; undefined where there is none, or not a whole one. */
export async function readFooter(file: FileHandle, size: number, salt: number): Promise<FoundFooter | undefined> {
  const trailer = await readAt(file, size - trailerBytes, trailerBytes);
  if (trailer?.toString("latin1", 8) !== footerMagic) return undefined;
  const length = trailer.readUInt32LE(0);
  const json = await readAt(file, size - trailerBytes - length, length);
  if (!json || crc32(json, salt) !== trailer.readUInt32LE(4)) return undefined;
  return decodeFooter(JSON.parse(json.toString()) as Footer);
}

function decodeFooter({ chunks, relations, sealedAt, history, larges, ...positions }: Footer): FoundFooter {
  return {
    sealedAt,
    relations,
    state: {
      history,
      end: BigInt(positions.end) as Lsn,
      recorded: BigInt(positions.recorded) as Lsn,
      seenEnd: BigInt(positions.seenEnd) as Lsn,
      larges: larges.map(({ position, length }) => ({ position: BigInt(position) as Lsn, length })),
    },
    chunks: chunks.map((chunk) => ({ ...chunk, end: BigInt(chunk.end) as Lsn, tables: new Set(chunk.tables) })),
  };
}
