/**
 * memfd files: name, size, mode, owner, seals, contents, and every open file description and mapping of them.
 *
 * Read from   fcntl(F_GET_SEALS), fstat(2), fdinfo; contents: shared.ts
 * Made with   memfd_create(2), /proc/self/fd/N for further descriptions, fcntl(F_ADD_SEALS) when all mappings are there
 */
import { closeSync, fchmodSync, fchownSync, fstatSync } from "node:fs";
import { ImageError, Refusal } from "../../errors.js";
import { F_SEAL_SEAL, addSeals, dupFrom, getSeals, setStatusFlags } from "../../linux/fcntl.js";
import { AT_FDCWD, O_ACCMODE, O_CLOEXEC, O_NONBLOCK, O_PATH, O_RDWR, SEEK_SET, lseek, openat } from "../../linux/files.js";
import { HUGETLB_FLAG_ENCODE_SHIFT, MAP_HUGETLB, MFD_ALLOW_SEALING, memfdCreate } from "../../linux/memory.js";
import { inheritedFd } from "../files/inherit.js";
import { isRegular } from "../files/unchanged.js";
import type { Fd, FileKind, RestoreSession } from "../part.js";
import { SHARED_ANONYMOUS, SHARED_HUGE, dumpInode, memfdName } from "./memfd-dump.js";
import { type MemfdFileEntry, type MemfdInodeEntry, memfdInodeEntry } from "./memfd.schema.js";
import { fillShared, makeSharedMemory } from "./shared.js";

const MODE_BITS = 0o7777;
/** Where the size of huge pages stands in flags of memfd_create(2) as of mmap(2). */
const HUGE_SIZE = 0x3f << HUGETLB_FLAG_ENCODE_SHIFT;
/** Flags that say how a file is opened, not what state it is in. */
const OPENING = O_ACCMODE | O_PATH;

/** An inode of one restore. */
interface MadeInode {
  readonly entry: MemfdInodeEntry;
  /** The descriptor it was made with: not opened by name, it does not count as one that keeps a program from being executed. */
  readonly fd: Fd;
  readonly ownedOutside: boolean;
  /** Whether the description of `fd` has been given to somebody. */
  given: boolean;
}

interface Inodes {
  readonly made: Map<number, MadeInode>;
  entries: ReadonlyMap<number, MemfdInodeEntry> | undefined;
  /** Whether seals may be set at once, because every mapping exists. */
  mapped: boolean;
}

const inodes = new WeakMap<RestoreSession, Inodes>();

function inodesOf(session: RestoreSession): Inodes {
  let of = inodes.get(session);
  if (of === undefined) {
    of = { made: new Map(), entries: undefined, mapped: false };
    inodes.set(session, of);
  }
  return of;
}

/** What memfd.img says of inode `id`. */
function inodeEntry(id: number, session: RestoreSession): MemfdInodeEntry | undefined {
  const of = inodesOf(session);
  of.entries ??= new Map(session.images.records("MEMFD_INODE", [], memfdInodeEntry).map(({ value }) => [Number(value.inode_id), value]));
  return of.entries.get(id);
}

function inode(id: number, session: RestoreSession): MadeInode {
  const of = inodesOf(session);
  let made = of.made.get(id);
  if (made === undefined) {
    const entry = inodeEntry(id, session);
    if (entry === undefined) throw noInode(id);
    const inherited = inheritedFd(session, ...memfdKeys(entry));
    // What is handed over keeps its content, and its seals.
    const ownedOutside = inherited !== undefined;
    const fd = ownedOutside ? dupFrom(inherited, 0) : makeInode(entry, session);
    made = { entry, fd, ownedOutside, given: ownedOutside || entry.name === SHARED_ANONYMOUS || entry.name === SHARED_HUGE };
    of.made.set(id, made);
    session.closeLater(made.fd);
    if (of.mapped) seal(made);
  }
  return made;
}

function noInode(id: number): ImageError {
  return new ImageError({
    code: "IMAGE_BAD_REFERENCE",
    place: { file: "memfd.img" },
    because: `it has no inode ${id}`,
    remedy: ["Dump the process again"],
  });
}

function makeInode(entry: MemfdInodeEntry, session: RestoreSession): Fd {
  const contents = { shmid: BigInt(entry.shmid), sizeBytes: entry.size };
  const size = (entry.hugetlb_flag ?? 0) & HUGE_SIZE;
  if (entry.name === SHARED_ANONYMOUS) return makeSharedMemory(session.images, contents);
  if (entry.name === SHARED_HUGE) return makeSharedMemory(session.images, contents, MAP_HUGETLB | size);
  const fd = memfdCreate(entry.name, MFD_ALLOW_SEALING | (entry.hugetlb_flag ?? 0));
  try {
    fillShared(fd, session.images, contents);
    fchownSync(fd, entry.uid, entry.gid);
    if (entry.mode !== undefined) fchmodSync(fd, entry.mode & MODE_BITS);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

const memfdKeys = (entry: MemfdInodeEntry | undefined): string[] => (entry === undefined ? [] : [`/memfd:${entry.name}`]);

function seal({ entry, fd, ownedOutside }: MadeInode): void {
  if (ownedOutside) return;
  const missing = entry.seals & ~(getSeals(fd) ?? entry.seals);
  if (missing === 0) return;
  // The seal against more seals is set by itself: it would forbid those of the same call on some kernels.
  if (missing & ~F_SEAL_SEAL) addSeals(fd, missing & ~F_SEAL_SEAL);
  if (missing & F_SEAL_SEAL) addSeals(fd, F_SEAL_SEAL);
}

/** Sets the seals. To be called when every mapping exists: a seal against writing forbids writable mappings from then on. */
export function sealMemfds(session: RestoreSession): void {
  const of = inodesOf(session);
  if (of.mapped) return;
  of.mapped = true;
  for (const made of of.made.values()) seal(made);
}

/** A descriptor to map inode `id` with: only one opened for writing gives mappings that may be made writable. */
export function memfdForMapping(id: number, flags: number, session: RestoreSession): Fd {
  const { fd } = inode(id, session);
  if ((flags & O_ACCMODE) === O_RDWR) return dupFrom(fd, 0);
  return openat(AT_FDCWD, `/proc/self/fd/${fd}`, { flags: (flags & O_ACCMODE) | O_CLOEXEC });
}

export const memfds: FileKind<MemfdFileEntry> = {
  name: "memory/memfd",
  rows: ["mem.memfd", "mem.shmem-fd"],
  type: "MEMFD",
  field: "memfd",
  matches: ({ link, stat }) => isRegular(stat) && stat.nlink === 0n && memfdName(link) !== undefined,
  dump(file, session) {
    const { id } = dumpInode(`/proc/${file.task.traced.pid}/fd/${file.fd}`, session);
    return { id: file.id, flags: file.info.flags, pos: file.info.pos, fown: file.fown, inode_id: id };
  },
  open(entry, session) {
    const made = inode(entry.inode_id, session);
    const isFirst = !made.given && (entry.flags & OPENING) === O_RDWR;
    if (isFirst) made.given = true;
    const fd = isFirst
      ? dupFrom(made.fd, 0)
      : openat(AT_FDCWD, `/proc/self/fd/${made.fd}`, { flags: (entry.flags & OPENING) | O_NONBLOCK | O_CLOEXEC });
    if (entry.flags & O_PATH) return fd;
    lseek(fd, entry.pos, SEEK_SET);
    setStatusFlags(fd, entry.flags);
    return fd;
  },
  outside: {
    names: (entry, session) => memfdKeys(inodeEntry(entry.inode_id, session)),
    flags: ({ flags }) => flags,
    check(entry, { fd, session, use }) {
      const wanted = inodeEntry(entry.inode_id, session);
      const stat = fstatSync(fd, { bigint: true });
      if (wanted === undefined || (isRegular(stat) && stat.size >= wanted.size)) return [];
      const because = `what was handed over for it is no file of at least its size, ${wanted.size} bytes, which mappings may rely on`;
      const remedy: [string] = ["Hand over a memfd (or another file) of that size"];
      const resource = `${use.what} "/memfd:${wanted.name}"`;
      return [new Refusal({ code: "EXTERNAL_UNFIT", process: use.process, resource, because, remedy }, "restore")];
    },
  },
  check(entry, session, use) {
    if (inodeEntry(entry.inode_id, session) !== undefined) return [];
    return [
      new Refusal(
        {
          code: "MAPPING_NOT_RESTORABLE",
          process: use.process,
          resource: use.what,
          because: `memfd.img has no inode ${entry.inode_id}`,
          remedy: ["Dump the process again"],
        },
        "restore",
      ),
    ];
  },
};
