/**
 * Which pages a restored process asked for first, in order: with the next restore of the same images they come first.
 *
 * A file `working-set-PID.img` beside the images: a magic, then page addresses of the images, 8 bytes each. It is advice: pages
 * that are not in the images are passed over.
 */
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const MAGIC = Buffer.from("FLOEWS01", "latin1");
const MOST_PAGES = 1 << 18;

function pathOf(directory: string, pid: number): string {
  return join(directory, `working-set-${pid}.img`);
}

/** Pages in the order in which they were asked for; none where nobody has noted them. */
export function readWorkingSet(directory: string, pid: number): readonly bigint[] {
  let bytes: Buffer;
  try {
    bytes = readFileSync(pathOf(directory, pid));
  } catch {
    return [];
  }
  if (!bytes.subarray(0, MAGIC.length).equals(MAGIC)) return [];
  const count = Math.min(MOST_PAGES, Math.floor((bytes.length - MAGIC.length) / 8));
  return Array.from({ length: count }, (_, i) => bytes.readBigUInt64LE(MAGIC.length + i * 8));
}

/** Notes what was asked for while memory was filled. */
export class WorkingSet {
  readonly #seen = new Map<number, Set<bigint>>();

  /** Page `origin` of the images was asked for. */
  note(pid: number, origin: bigint): void {
    let pages = this.#seen.get(pid);
    if (pages === undefined) {
      pages = new Set();
      this.#seen.set(pid, pages);
    }
    if (pages.size < MOST_PAGES) pages.add(origin);
  }

  /** Writes what is new: first what was known before, since it came in time and was not asked for. */
  write(directory: string): void {
    for (const [pid, pages] of this.#seen) {
      const all = [...new Set([...readWorkingSet(directory, pid), ...pages])].slice(0, MOST_PAGES);
      const bytes = Buffer.alloc(MAGIC.length + all.length * 8);
      MAGIC.copy(bytes);
      all.forEach((page, i) => bytes.writeBigUInt64LE(page, MAGIC.length + i * 8));
      const path = pathOf(directory, pid);
      writeFileSync(`${path}.new`, bytes, { mode: 0o600 });
      renameSync(`${path}.new`, path);
    }
  }
}
