/**
 * What mappings show: files and shared memory, each opened or made once for the whole tree.
 */
import { dupFrom } from "../../linux/fcntl.js";
import { openRegular } from "../files/regular.js";
import { restoreSegments, segmentBytes, segmentPageBytes } from "../ipc/shm.js";
import type { Fd, RestoreSession } from "../part.js";
import { AREA } from "./area.js";
import { memfdForMapping } from "./memfd.js";
import { makeSharedMemory } from "./shared.js";
import type { SavedSpace } from "./saved-space.js";
import type { VmaEntry } from "./vma.schema.js";

/** Descriptors of ours for the objects behind mappings. */
export class MappedObjects {
  readonly #session: RestoreSession;
  readonly #sizes = new Map<bigint, bigint>();
  readonly #open = new Map<string, Fd>();

  constructor(session: RestoreSession, spaces: readonly SavedSpace[]) {
    this.#session = session;
    for (const { mm } of spaces) {
      for (const vma of mm.vmas) {
        if (vma.status & AREA.SYSV) restoreSegments(session);
        if ((vma.status & AREA.ANON_SHARED) === 0 || vma.status & AREA.SYSV) continue;
        const end = vma.pgoff + (vma.end - vma.start);
        if (end > (this.#sizes.get(vma.shmid) ?? 0n)) this.#sizes.set(vma.shmid, end);
      }
    }
  }

  /** The descriptor to map for `vma`; undefined when it shows nothing but its own pages. */
  of(vma: VmaEntry): Fd | undefined {
    if (vma.status & AREA.SYSV) return undefined;
    if (vma.status & AREA.ANON_SHARED) {
      return this.#once(`shared ${vma.shmid}`, () =>
        makeSharedMemory(this.#session.images, { shmid: vma.shmid, sizeBytes: this.#sizes.get(vma.shmid) ?? 0n }),
      );
    }
    if (vma.status & AREA.SOCKET) return this.#once(`socket ${vma.shmid}`, () => dupFrom(this.#session.file(Number(vma.shmid)), 0));
    if ((vma.status & (AREA.FILE_PRIVATE | AREA.FILE_SHARED)) === 0) return undefined;
    const flags = vma.fdflags ?? 0;
    const entry = this.#session.fileEntry(Number(vma.shmid));
    if (entry?.memfd !== undefined) {
      const { inode_id } = entry.memfd;
      return this.#once(`memfd ${inode_id} ${flags}`, () => memfdForMapping(inode_id, flags, this.#session));
    }
    const reg = entry?.reg;
    if (reg === undefined) throw new Error(`internal error: no file ${vma.shmid} for a mapping`);
    return this.#once(`file ${reg.id} ${flags}`, () => openRegular({ ...reg, pos: 0n }, this.#session, flags));
  }

  /** Size of the System V segment of this number, and of its pages. */
  segmentSize(id: bigint): { readonly bytes: bigint; readonly pageBytes: bigint } {
    const number = Number(id);
    return { bytes: segmentBytes(number, this.#session), pageBytes: segmentPageBytes(number, this.#session) };
  }

  #once(key: string, make: () => Fd): Fd {
    let fd = this.#open.get(key);
    if (fd === undefined) {
      fd = make();
      this.#open.set(key, fd);
      this.#session.closeLater(fd);
    }
    return fd;
  }
}
