/**
 * The memfd inodes of a dump: each is written once, however many descriptors and mappings of however many tasks show it.
 *
 * Read from   stat(2), fstatfs(2), fcntl(F_GET_SEALS) on the file, opened anew through /proc/PID/{fd,map_files,exe}
 */
import { type BigIntStats, closeSync, constants, fstatSync } from "node:fs";
import { openSync, readlinkSync } from "../../linux/named-files.js";
import { toStatDevice } from "../../linux/device-numbers.js";
import { getSeals } from "../../linux/fcntl.js";
import { fstatfs } from "../../linux/files.js";
import { HUGETLB_FLAG_ENCODE_SHIFT, MFD_HUGETLB } from "../../linux/memory.js";
import { fdTypes, fileEntry } from "../files/table.schema.js";
import type { Vma } from "../../linux/proc/maps.js";
import { hasOwnIpc, segmentsOfTree } from "../ipc/namespace.js";
import type { DumpSession } from "../part.js";
import { areaKind } from "./area.js";
import { memfdInodeEntry } from "./memfd.schema.js";

const PREFIX = "/memfd:";
/** What the kernel appends to the name of a file that no directory holds. */
const SUFFIX = " (deleted)";
/** Name under which shared anonymous memory shows itself as a file; it is saved like a memfd when it is used as one. */
export const SHARED_ANONYMOUS = "/dev/zero";
/** uapi/linux/magic.h */
export const HUGETLBFS_MAGIC = 0x958458f6n;
/** The same of huge pages. */
export const SHARED_HUGE = "/anon_hugepage";
const MAX_U32 = 0xffffffffn;
const BEYOND_SEGMENTS = 1n << 40n;
const NO_OWNER = { uid: 0, euid: 0, signum: 0, pid_type: 0, pid: 0 };

/** A memfd, or shared anonymous memory that somebody has a descriptor of. */
export interface DumpedInode {
  /** Its number in memfd.img. */
  readonly id: number;
  /** The number its pages are saved under. */
  readonly shmid: number;
  /** A path below /proc to open it through. */
  readonly procPath: string;
  readonly isHuge: boolean;
  /** Entries of files.img for its mappings, by open flags. */
  readonly forMappings: Map<number, number>;
}

interface Inodes {
  readonly byKey: Map<string, DumpedInode>;
  /** Numbers in use: segments have theirs from the kernel, shared anonymous memory that of its inode. */
  readonly shmids: Set<number>;
  readonly segments: ReadonlySet<bigint>;
}

const known = new WeakMap<DumpSession, Inodes>();

function inodesOf(session: DumpSession): Inodes {
  let inodes = known.get(session);
  if (inodes === undefined) {
    const mapped = session.tasks.flatMap((task) => task.vmas.map((vma) => ({ kind: areaKind(vma), inode: vma.inode })));
    const attached = mapped.filter((m) => m.kind === "sysv").map((m) => m.inode);
    const segments = new Set([...attached, ...(hasOwnIpc(session) ? segmentsOfTree(session).map(({ id }) => BigInt(id)) : [])]);
    const shared = mapped.filter((m) => m.kind === "shared-anonymous").map((m) => Number(m.inode & MAX_U32));
    inodes = { byKey: new Map(), shmids: new Set([...shared, ...[...segments].map(Number)]), segments };
    known.set(session, inodes);
  }
  return inodes;
}

/** The name of a memfd in the text of a link in /proc; undefined for anything else. */
export function memfdName(link: string): string | undefined {
  if (!link.endsWith(SUFFIX)) return undefined;
  const name = link.slice(0, -SUFFIX.length);
  return name === SHARED_ANONYMOUS || name === SHARED_HUGE ? name : name.startsWith(PREFIX) ? name.slice(PREFIX.length) : undefined;
}

function keyOf(stat: Pick<BigIntStats, "dev" | "ino">): string {
  return `${stat.dev}/${stat.ino}`;
}

/** The inode behind `procPath`, written down on first sight. */
export function dumpInode(procPath: string, session: DumpSession): DumpedInode {
  const fd = openSync(procPath, constants.O_RDONLY);
  try {
    const stat = fstatSync(fd, { bigint: true });
    const inodes = inodesOf(session);
    let inode = inodes.byKey.get(keyOf(stat));
    if (inode === undefined) {
      inode = writeInode({ fd, stat, procPath, id: inodes.byKey.size + 1, shmid: freshShmid(inodes, stat.ino) }, session);
      inodes.byKey.set(keyOf(stat), inode);
    }
    return inode;
  } finally {
    closeSync(fd);
  }
}

/** The inode number where it fits and is not that of a file on another mount; else any that is free. */
function freshShmid({ shmids }: Inodes, ino: bigint): number {
  let shmid = Number(ino & MAX_U32);
  while (shmids.has(shmid)) shmid = (shmid + 1) >>> 0;
  shmids.add(shmid);
  return shmid;
}

function writeInode(of: { fd: number; stat: BigIntStats; procPath: string; id: number; shmid: number }, session: DumpSession): DumpedInode {
  const { fd, stat, id, shmid, procPath } = of;
  const fs = fstatfs(fd);
  const isHuge = fs.type === HUGETLBFS_MAGIC;
  const flag = isHuge ? (MFD_HUGETLB | (Math.log2(Number(fs.blockSizeBytes)) << HUGETLB_FLAG_ENCODE_SHIFT)) >>> 0 : undefined;
  session.images.append("MEMFD_INODE", [], {
    type: memfdInodeEntry,
    value: {
      name: memfdName(readlinkSync(procPath)) ?? "",
      uid: Number(stat.uid),
      gid: Number(stat.gid),
      size: stat.size,
      shmid,
      seals: getSeals(fd) ?? 0,
      inode_id: BigInt(id),
      mode: Number(stat.mode),
      ...(flag === undefined ? {} : { hugetlb_flag: flag }),
    },
  });
  return { id, shmid, procPath, isHuge, forMappings: new Map() };
}

/** The id in files.img for a mapping of the memfd behind `procPath`, or for one that is executed. */
export function memfdFileId(procPath: string, flags: number, session: DumpSession): number {
  const inode = dumpInode(procPath, session);
  let id = inode.forMappings.get(flags);
  if (id === undefined) {
    id = session.newFileId();
    inode.forMappings.set(flags, id);
    const memfd = { id, flags, pos: 0n, fown: NO_OWNER, inode_id: inode.id };
    session.images.append("FILES", [], { type: fileEntry, value: { type: fdTypes.values.MEMFD, id, memfd } });
  }
  return id;
}

/** Every inode of this dump, for their contents. */
export function dumpedInodes(session: DumpSession): Iterable<DumpedInode> {
  return inodesOf(session).byKey.values();
}

/** The number under which shared anonymous memory is saved: its inode's, which may be the number of a segment as well. */
export function sharedMemoryId(inode: bigint, session: DumpSession): bigint {
  return sharedIdOf(inode, { isAnonymous: true, segments: inodesOf(session).segments });
}

/** The number that an object will have in a dump if nothing comes in between; that of a memfd has 32 bits. */
export function sharedIdOf(inode: bigint, of: { isAnonymous: boolean; segments: ReadonlySet<bigint> }): bigint {
  if (!of.isAnonymous) return inode & MAX_U32;
  return of.segments.has(inode) ? inode | BEYOND_SEGMENTS : inode;
}

/** Whether the shared anonymous memory behind a mapping has been written down as a file. */
export function isDumpedAsFile(vma: Vma, session: DumpSession): boolean {
  return inodesOf(session).byKey.has(keyOf({ dev: toStatDevice({ major: vma.devMajor, minor: vma.devMinor }), ino: vma.inode }));
}
