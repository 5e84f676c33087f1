/** The files of a PGlite that works in memory, as Emscripten's file system has them. */
import { PGlite } from "@electric-sql/pglite";
import type { Files, StoredFile } from "./page-store.ts";

/** As much of Emscripten's `FS` as is needed. https://emscripten.org/docs/api_reference/Filesystem-API.html */
interface FileSystem {
  open(path: string, flags: string): object;
  read(stream: object, buffer: Uint8Array, offset: number, length: number, position: number): number;
  close(stream: object): void;
  readdir(path: string): string[];
  stat(path: string): { readonly mode: number; readonly size: number };
  isDir(mode: number): boolean;
}

export class MemoryFiles implements Files {
  private readonly root = PGlite.paths.PGDATA;
  private readonly fileSystem: () => FileSystem;

  constructor(fileSystem: () => FileSystem) {
    this.fileSystem = fileSystem;
  }

  read(path: string, at: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    const fs = this.fileSystem();
    const stream = fs.open(this.root + path, "r");
    fs.read(stream, bytes, 0, length, at);
    fs.close(stream);
    return bytes;
  }

  *list(directory = ""): Generator<StoredFile> {
    const fs = this.fileSystem();
    for (const name of fs.readdir(this.root + directory)) {
      if (name === "." || name === "..") continue;
      const path = `${directory}/${name}`;
      const { mode, size } = fs.stat(this.root + path);
      yield { path, size: fs.isDir(mode) ? undefined : size };
      if (fs.isDir(mode)) yield* this.list(path);
    }
  }
}
