/**
 * Lets a 64-bit ELF library that was linked against glibc 2.38 load on older systems. C23 gave strtol, strtoul and
 * sscanf new names there, which differ in reading binary literals (0b101) only; nothing else in the library needs 2.38.
 *
 *     dynamic symbol   __isoc23_strtol → strtol: each old name is the tail of the new one, so its offset moves by nine
 *     .gnu.version     those symbols' version index → that of libc's oldest version on this machine type
 *     .gnu.version_r   the GLIBC_2.38 entry is flagged weak, so the loader no longer refuses for the lack of it
 *
 * Bytes in, bytes out; no length changes. Every offset is checked before it is followed, and a file that is not laid out
 * as described is refused rather than guessed at.
 * https://refspecs.linuxfoundation.org/elf/gabi4+/contents.html
 * https://refspecs.linuxfoundation.org/LSB_5.0.0/LSB-Core-generic/LSB-Core-generic/symversion.html
 */
import { WalcastError } from "../errors.ts";

/** A changed copy. A library that needs no mending, one mended before included, comes back as it was. */
export function mendGlibcNeed(library: Uint8Array): Uint8Array {
  const file = new ElfFile(Uint8Array.from(library));
  const libc = readVersionNeeds(file).find((need) => need.library.startsWith("libc.so"));
  const tooNew = libc?.versions.find((version) => version.name === newVersion);
  if (!libc || !tooNew || tooNew.flags & weakFlag) return file.bytes;
  const base = libc.versions.find((version) => version.name === file.oldestGlibc);
  if (!base) throw refused(`expected a need of ${file.oldestGlibc} to point at, found none`);
  for (const symbol of symbolsOfVersion(file, tooNew.index)) renameSymbol(file, symbol, base.index);
  file.setU16(tooNew.at + vernauxFlags, tooNew.flags | weakFlag);
  return file.bytes;
}

const newVersion = "GLIBC_2.38";
const newPrefix = "__isoc23_";
const renamed = new Set(["__isoc23_strtol", "__isoc23_strtoul", "__isoc23_sscanf"]);
const weakFlag = 2; // VER_FLG_WEAK
const vernauxFlags = 4; // offset of vna_flags

interface ElfSymbol {
  /** Where its Elf64_Sym lies. */
  readonly at: number;
  /** Where its entry in .gnu.version lies. */
  readonly versionAt: number;
}

function renameSymbol(file: ElfFile, symbol: ElfSymbol, versionIndex: number): void {
  const nameOffset = file.u32(symbol.at);
  const name = file.text(nameOffset);
  const isDefined = file.u16(symbol.at + 6) !== 0;
  if (!renamed.has(name) || isDefined)
    throw refused(`expected only ${[...renamed].join(", ")} of ${newVersion}, found ${JSON.stringify(name)}`);
  file.setU32(symbol.at, nameOffset + newPrefix.length);
  file.setU16(symbol.versionAt, versionIndex);
}

function symbolsOfVersion(file: ElfFile, version: number): ElfSymbol[] {
  const symbols = file.section(sectionTypes.dynamicSymbols);
  const versions = file.section(sectionTypes.symbolVersions);
  const count = symbols.size / symbolBytes;
  if (!Number.isInteger(count) || versions.size !== count * 2)
    throw refused("expected one version for each dynamic symbol");
  const found: ElfSymbol[] = [];
  for (let i = 0; i < count; i++) {
    const versionAt = versions.offset + i * 2;
    if (file.u16(versionAt) === version) found.push({ at: symbols.offset + i * symbolBytes, versionAt });
  }
  return found;
}

const symbolBytes = 24;

// ── Version needs ────────────────────────────────────────────────────────────────────────────────────────────────────

interface VersionNeed {
  readonly library: string;
  readonly versions: readonly {
    readonly name: string;
    readonly index: number;
    readonly flags: number;
    readonly at: number;
  }[];
}

/** A chain of Elf64_Verneed, each with a chain of Elf64_Vernaux; sh_info and vn_cnt say how many, so no chain is endless. */
function readVersionNeeds(file: ElfFile): VersionNeed[] {
  const section = file.section(sectionTypes.versionNeeds);
  const needs: VersionNeed[] = [];
  let at = section.offset;
  for (let i = 0; i < section.info; i++) {
    if (file.u16(at) !== 1) throw refused(`expected a version need of format 1, found ${file.u16(at)}`);
    needs.push({ library: file.text(file.u32(at + 4)), versions: readVersions(file, at) });
    at += file.u32(at + 12);
  }
  return needs;
}

function readVersions(file: ElfFile, need: number): VersionNeed["versions"] {
  const versions: VersionNeed["versions"][number][] = [];
  let at = need + file.u32(need + 8);
  for (let i = 0; i < file.u16(need + 2); i++) {
    versions.push({
      name: file.text(file.u32(at + 8)),
      index: file.u16(at + 6),
      flags: file.u16(at + vernauxFlags),
      at,
    });
    at += file.u32(at + 12);
  }
  return versions;
}

// ── The file ─────────────────────────────────────────────────────────────────────────────────────────────────────────

const sectionTypes = { dynamicSymbols: 11, versionNeeds: 0x6ffffffe, symbolVersions: 0x6fffffff } as const;

interface Section {
  readonly type: number;
  readonly offset: number;
  readonly size: number;
  readonly link: number;
  readonly info: number;
}

class ElfFile {
  readonly bytes: Uint8Array;
  /** The version libc began with on this machine type: what every old name is bound to. */
  readonly oldestGlibc: string;
  private readonly view: DataView;
  private readonly sections: readonly Section[];
  private readonly strings: Section;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (this.u32(0) !== 0x464c457f || this.u16(4) !== 0x0102) throw refused("expected a 64-bit little-endian ELF file");
    this.oldestGlibc = oldestGlibcOf(this.u16(18));
    this.sections = this.readSections();
    const strings = this.sections[this.section(sectionTypes.dynamicSymbols).link];
    if (strings?.type !== 3) throw refused("expected a string table for the dynamic symbols");
    this.strings = strings;
  }

  section(type: number): Section {
    const found = this.sections.filter((section) => section.type === type);
    if (found.length !== 1) throw refused(`expected one section of type ${type}, found ${found.length}`);
    return found[0]!;
  }

  /** The zero-terminated text at an offset into the dynamic string table. */
  text(offset: number): string {
    const end = this.bytes.indexOf(0, this.strings.offset + offset);
    if (offset >= this.strings.size || end < 0 || end >= this.strings.offset + this.strings.size)
      throw refused(`expected a name at ${offset} in the string table`);
    return Buffer.from(
      this.bytes.buffer,
      this.bytes.byteOffset + this.strings.offset + offset,
      end - this.strings.offset - offset,
    ).toString("latin1");
  }

  u16(at: number): number {
    return this.view.getUint16(this.checked(at, 2), true);
  }

  u32(at: number): number {
    return this.view.getUint32(this.checked(at, 4), true);
  }

  setU16(at: number, value: number): void {
    this.view.setUint16(this.checked(at, 2), value, true);
  }

  setU32(at: number, value: number): void {
    this.view.setUint32(this.checked(at, 4), value, true);
  }

  private readSections(): Section[] {
    const [start, size, count] = [this.u64(40), this.u16(58), this.u16(60)];
    if (size !== 64 || count === 0) throw refused(`expected section headers of 64 bytes, found ${count} of ${size}`);
    this.checked(start, size * count);
    return Array.from({ length: count }, (_, i) => this.readSection(start + i * size));
  }

  private readSection(at: number): Section {
    const section = {
      type: this.u32(at + 4),
      offset: this.u64(at + 24),
      size: this.u64(at + 32),
      link: this.u32(at + 40),
      info: this.u32(at + 44),
    };
    // A section of zeros (.bss) takes no room in the file, whatever its size.
    if (section.type !== 8) this.checked(section.offset, section.size);
    return section;
  }

  private u64(at: number): number {
    return Number(this.view.getBigUint64(this.checked(at, 8), true));
  }

  private checked(at: number, length: number): number {
    if (at + length > this.bytes.length)
      throw refused(`expected ${length} bytes at ${at}, found the end at ${this.bytes.length}`);
    return at;
  }
}

function oldestGlibcOf(machine: number): string {
  if (machine === 62) return "GLIBC_2.2.5"; // x86-64
  if (machine === 183) return "GLIBC_2.17"; // AArch64
  throw refused(`expected a library for x86-64 or AArch64, found machine type ${machine}`);
}

function refused(found: string): WalcastError {
  return new WalcastError("config_invalid", `mend the WebSocket library for an older glibc: ${found}`);
}
