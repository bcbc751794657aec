/**
 * Whether a file still is the one that a process knew: type, size, mode and build, as far as the user wants to know.
 */
import { type BigIntStats, closeSync, fstatSync } from "node:fs";
import { lstatSync, statSync } from "../../linux/named-files.js";
import { KernelError, Refusal } from "../../errors.js";
import { AT_FDCWD, O_CLOEXEC, O_PATH, openat } from "../../linux/files.js";
import { MANY_FILES, glanceAt, isPlainName } from "../../linux/many-files.js";
import type { FileLock } from "../../linux/proc/locks.js";
import { readLocks, readMaps } from "../../linux/proc/read.js";
import type { FileUse, Problem, RestoreSession } from "../part.js";
import { type PolicyOptions, policyOf } from "../policy.js";
import { isGuardedBy, guardsOf } from "../watches/guards.js";
import { readBuildId } from "./build-id.js";
import { CHECKSUM_OF_BLOCKS, checksumOf, stepFor } from "./checksum.js";
import type { RegFileEntry } from "./regular.schema.js";

const S_IFMT = 0o170000n;
const S_IFREG = 0o100000n;
const S_IFLNK = 0o120000n;
const [FORMAT, REGULAR] = [Number(S_IFMT), Number(S_IFREG)];
const RWX = 0o7777;
/** The head of an ELF file is as long. */
const LEAST_WITH_BUILD_ID = 64n;

export function isRegular(stat: BigIntStats): boolean {
  return (stat.mode & S_IFMT) === S_IFREG;
}

/** What tells a file from others of the same size. */
export interface Identity {
  readonly buildId: readonly number[] | undefined;
  /** Of a file without a build id, where it was wanted. */
  readonly checksum: number | undefined;
}

const identities = new Map<string, Identity>();

const keys = new WeakMap<BigIntStats, string>();

/** Put together once for each stat: those of many descriptors are the same ones as before the freeze. */
export function stateKey(stat: BigIntStats): string {
  let key = keys.get(stat);
  if (key === undefined) {
    key = `${stat.dev}/${stat.ino}/${stat.ctimeNs}/${stat.size}`;
    keys.set(stat, key);
  }
  return key;
}

/** What is known of a file that must not be opened now. */
export function knownIdentity(stat: BigIntStats): Identity {
  return identities.get(stateKey(stat)) ?? { buildId: undefined, checksum: undefined };
}

/** Whether {@link identityOf} would look into a file for its build id. */
export function needsLook(stat: BigIntStats): boolean {
  return isRegular(stat) && stat.size >= LEAST_WITH_BUILD_ID && !identities.has(stateKey(stat));
}

/**
 * Reads the build id of a file, or else its checksum where that is wanted, once per state of it. `isHeard`: the tree would be told of a
 * plain look.
 */
export function identityOf(
  openPath: string,
  stat: BigIntStats,
  { wantsChecksum = false, isHeard = false }: { wantsChecksum?: boolean; isHeard?: boolean } = {},
): Identity {
  const key = stateKey(stat);
  let known = identities.get(key);
  known ??= { buildId: stat.size < LEAST_WITH_BUILD_ID ? undefined : readBuildId(openPath, isHeard), checksum: undefined };
  if (wantsChecksum && known.buildId === undefined && known.checksum === undefined) {
    const sizeBytes = Number(stat.size);
    known = { ...known, checksum: checksumOf(openPath, { sizeBytes, step: stepFor(sizeBytes), isHeard }) };
  }
  identities.set(key, known);
  return known;
}

/** Looks at mapped files and programs while the processes still run; the dump then knows them already. */
export function learnMapped(pids: readonly number[], by: Pick<PolicyOptions, "fileValidation"> & { readonly isHeard: boolean }): void {
  const { fileValidation, isHeard } = by;
  const wantsChecksum = fileValidation === "buildid";
  const leased = leasedFiles();
  const guards = guardsOf(pids);
  const seen = new Set<string>();
  for (const pid of pids) {
    try {
      for (const { inode, devMajor, devMinor, name, shared, start, end } of readMaps(pid)) {
        const key = `${devMajor}:${devMinor}:${inode}`;
        if (inode === 0n || shared || seen.has(key) || leased.has(inode) || !name.startsWith("/") || name.endsWith(" (deleted)")) continue;
        seen.add(key);
        const path = `/proc/${pid}/map_files/${start.toString(16)}-${end.toString(16)}`;
        const stat = statSync(path, { bigint: true });
        if (isRegular(stat) && !isGuardedBy(guards, path)) identityOf(path, stat, { wantsChecksum, isHeard });
      }
    } catch {
      // The process has ended, or changed its mappings: the dump will look again.
    }
  }
}

/** Two changes within this time may have the same time. */
const TICK_NS = 50_000_000n;
const NS_PER_MS = 1_000_000n;

/** Whether a change that came now might not show. */
export function isFresh({ mtimeNs, ctimeNs }: BigIntStats): boolean {
  const newest = mtimeNs > ctimeNs ? mtimeNs : ctimeNs;
  return BigInt(Date.now()) * NS_PER_MS - newest < TICK_NS;
}

/** A file that a process has open, by a descriptor. */
export interface OpenedFile {
  readonly pid: number;
  readonly fd: number;
  readonly stat: BigIntStats;
}

/** Looks into open files while the processes still run: in the freeze it takes 13 µs for each. */
export function learnOpened(files: readonly OpenedFile[], by: { readonly pids: readonly number[]; readonly isHeard: boolean }): void {
  const unknown = files.filter(({ stat }) => needsLook(stat) && stat.nlink !== 0n && !isFresh(stat));
  if (unknown.length === 0) return;
  const leased = leasedFiles();
  const guards = guardsOf(by.pids);
  for (const { pid, fd, stat } of unknown) {
    if (!needsLook(stat) || leased.has(stat.ino)) continue;
    let own: number | undefined;
    try {
      // By now the number may be that of something else, which must not be opened.
      own = openat(AT_FDCWD, `/proc/${pid}/fd/${fd}`, { flags: O_PATH | O_CLOEXEC });
      if (stateKey(fstatSync(own, { bigint: true })) === stateKey(stat)) {
        const path = `/proc/self/fd/${own}`;
        if (!isGuardedBy(guards, path)) identityOf(path, stat, by);
      }
    } catch (error) {
      if (!(error instanceof KernelError)) throw error; // it was closed
    } finally {
      if (own !== undefined) closeSync(own);
    }
  }
}

/** Readings of all locks after which it is taken that there is no more to learn. */
const MOST_READINGS = 8;

/**
 * Inode numbers of files under a lease, which looking into them would break. The kernel hands locks out page by page: where others lock
 * or unlock meanwhile a line may be left out. So they are read until a reading has nothing new.
 */
export function leasedFiles(read: () => readonly FileLock[] = readLocks): Set<bigint> {
  const leased = new Set<bigint>();
  for (let i = 0, known = -1; i < MOST_READINGS && known !== leased.size; i++) {
    if (i > 0) known = leased.size;
    for (const { kind, inode } of read()) if (kind === "LEASE") leased.add(inode);
  }
  return leased;
}

/** Files that were found to be what they were, by one look at all of them. */
const unchanged = new WeakMap<RestoreSession, WeakSet<RegFileEntry>>();

/**
 * Looks at many files that are had by their names, all at once; {@link checkFile} then knows of those that are plainly what they were. What
 * there is to be said of the others it finds out by itself.
 */
export function lookAtMany(entries: readonly RegFileEntry[], session: RestoreSession): void {
  const looked = entries.filter((entry) => isToldByGlance(entry, session));
  if (looked.length < MANY_FILES) return;
  const found = new WeakSet<RegFileEntry>();
  const names = [...new Set(looked.map(({ name }) => name))];
  const seen = glanceAt(names);
  const glances = new Map(names.map((name, i) => [name, seen[i]]));
  for (const entry of looked) {
    const glance = glances.get(entry.name);
    if (glance === undefined || glance.mode !== entry.mode) continue;
    if ((glance.mode & FORMAT) !== REGULAR || glance.sizeBytes === entry.size) found.add(entry);
  }
  unchanged.set(session, found);
}

/** Whether type, mode and size are all that is to be compared. */
function isToldByGlance({ name, mode, flags, build_id, checksum }: RegFileEntry, { options }: RestoreSession): boolean {
  const isLink = (flags & O_PATH) !== 0 && (BigInt(mode ?? 0) & S_IFMT) === S_IFLNK;
  const hasNoBuild = options.fileValidation !== "buildid" || (build_id.length === 0 && checksum === undefined);
  return mode !== undefined && !isLink && hasNoBuild && isPlainName(name);
}

/** What a file must still be, or the program would go on with something else than it knew. */
export function checkFile(entry: RegFileEntry, session: RestoreSession, use: FileUse): Problem[] {
  if (unchanged.get(session)?.has(entry) === true) return [];
  const refuse = (code: string, because: string, ...remedy: [string, ...string[]]) => [
    new Refusal({ code, process: use.process, resource: `${use.what} "${entry.name}"`, because, remedy }, "restore"),
  ];
  let stat: BigIntStats;
  try {
    const follow = !(entry.flags & O_PATH && (BigInt(entry.mode ?? 0) & S_IFMT) === S_IFLNK);
    stat = follow ? statSync(entry.name, { bigint: true }) : lstatSync(entry.name, { bigint: true });
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).code === "ENOENT" ? "the file is gone" : (error as Error).message;
    return refuse("FILE_GONE", why, `Put the file back at "${entry.name}"`);
  }
  if (entry.mode !== undefined && (stat.mode & S_IFMT) !== (BigInt(entry.mode) & S_IFMT)) {
    return refuse("FILE_CHANGED", "something of another type has its name now", "Put the original file back");
  }
  const policy = policyOf(entry.name, session.options);
  if (!isRegular(stat) || policy === "ignore") return [];
  if (entry.size !== undefined && stat.size !== entry.size && !(policy === "grown" && stat.size > entry.size)) {
    const other = stat.size > entry.size ? "grown" : "ignore";
    return refuse(
      "FILE_CHANGED",
      `its size was ${entry.size} bytes and is ${stat.size} now`,
      "Put back the file as it was at the time of the dump",
      `Accept it as it is with --file-policy ${entry.name}=${other}`,
    );
  }
  if (!session.options.skipFileRwxCheck && entry.mode !== undefined && (Number(stat.mode) & RWX) !== (entry.mode & RWX)) {
    return refuse(
      "FILE_MODE_CHANGED",
      `its mode was ${(entry.mode & RWX).toString(8)} and is ${(Number(stat.mode) & RWX).toString(8)} now`,
      `Give it its mode back: chmod ${(entry.mode & RWX).toString(8)} ${entry.name}`,
      "Allow other modes with --skip-file-rwx-check",
    );
  }
  if (session.options.fileValidation !== "buildid" || isSame(entry, stat)) return [];
  return refuse(
    "FILE_CHANGED",
    entry.build_id.length > 0
      ? "it is another build of the program or library than at the time of the dump"
      : "it has other contents of the same size than at the time of the dump",
    "Put back the file as it was at the time of the dump",
    "Compare sizes only: --file-validation filesize",
  );
}

/** By build id or checksum, whichever the images have; a checksum of a kind we do not know says nothing. */
function isSame(entry: RegFileEntry, stat: BigIntStats): boolean {
  const { build_id: wanted, checksum } = entry;
  if (wanted.length > 0) {
    const { buildId } = identityOf(entry.name, stat);
    return buildId !== undefined && buildId.length === wanted.length && buildId.every((word, i) => word === wanted[i]);
  }
  if (checksum === undefined || entry.checksum_config !== CHECKSUM_OF_BLOCKS || entry.size !== stat.size) return true;
  return checksumOf(entry.name, { sizeBytes: Number(stat.size), step: entry.checksum_parameter ?? 0 }) === checksum;
}
