/** What spools hold in memory: small ones all they have, the others what was read or written last. */

/** What all spools together may hold in memory; beyond it new ones go to files. */
export class SpoolMemory {
  private readonly bytesMax: number;
  private bytes = 0;

  constructor(bytesMax: number) {
    this.bytesMax = bytesMax;
  }

  take(bytes: number): boolean {
    if (this.bytes + bytes > this.bytesMax) return false;
    this.bytes += bytes;
    return true;
  }

  give(bytes: number): void {
    this.bytes -= bytes;
  }
}

/** How many pieces of one spool stay in memory: readers who are about there find them. */
const piecesMax = 16;

export class Lately<Piece> {
  private readonly pieces = new Map<number, Piece>();

  get(n: number): Piece | undefined {
    return this.pieces.get(n);
  }

  remember(n: number, piece: Piece): void {
    this.pieces.delete(n);
    this.pieces.set(n, piece);
    if (this.pieces.size > piecesMax) this.pieces.delete(this.pieces.keys().next().value!);
  }

  delete(n: number): void {
    this.pieces.delete(n);
  }

  clear(): void {
    this.pieces.clear();
  }
}
