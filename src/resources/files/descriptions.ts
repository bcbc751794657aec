/**
 * Open file descriptions that have an entry in the images, and how the same one is found again under another descriptor.
 *
 * Where each descriptor was read with the number of its description that is enough. Others are compared by kcmp(2).
 */
import { O_CLOEXEC } from "../../linux/files.js";
import type { FdInfo } from "../../linux/proc/fdinfo.js";
import { kcmpFile } from "../../linux/process.js";

/** A descriptor, of a process of the tree or of ours. */
export interface Seen {
  readonly pid: number;
  readonly fd: number;
  /** What /proc calls it. */
  readonly link: string;
  readonly info: FdInfo;
  /** The number of its description, where it is known. */
  readonly file?: number | undefined;
}

/** Its entry. */
export interface Entry {
  readonly id: number;
  readonly type: number;
}

/** A description that has an entry, under the first descriptor that it was seen at. */
export type Known = Seen & Entry;

export class Descriptions {
  readonly #byFile = new Map<number, Known>();
  /** Of what descriptors of one description agree in: those that are alike, sorted as the kernel compares them. */
  readonly #alike = new Map<string, Known[]>();
  /** Links of those. */
  readonly #links = new Set<string>();
  /** Known by their number alone so far. */
  #unsorted: Known[] = [];
  #unsortedByLink: Map<string, Known[]> | undefined;

  find(seen: Seen): Known | undefined {
    const { file, link } = seen;
    const known = file === undefined ? undefined : this.#byFile.get(file);
    if (known !== undefined || (file !== undefined && !this.#links.has(link))) return known;
    this.#sort(link);
    const place = search(this.#alikeTo(seen), seen);
    if (typeof place === "number") return undefined;
    if (file !== undefined) this.#byFile.set(file, place);
    return place;
  }

  /** `seen` is of none that is known. */
  add(seen: Seen, { id, type }: Entry): Known {
    const { pid, fd, link, info, file } = seen;
    const known = { pid, fd, link, info, file, id, type };
    if (file === undefined) this.#put(known);
    else this.#number(known, file);
    return known;
  }

  #number(known: Known, file: number): void {
    this.#byFile.set(file, known);
    this.#unsorted.push(known);
  }

  /** Makes those with a link known to who has no number. */
  #sort(link: string): void {
    this.#unsortedByLink ??= new Map();
    for (const known of this.#unsorted.splice(0)) {
      const some = this.#unsortedByLink.get(known.link);
      if (some === undefined) this.#unsortedByLink.set(known.link, [known]);
      else some.push(known);
    }
    for (const known of this.#unsortedByLink.get(link) ?? []) this.#put(known);
    this.#unsortedByLink.delete(link);
  }

  #put(known: Known): void {
    this.#links.add(known.link);
    const alike = this.#alikeTo(known);
    const place = search(alike, known);
    if (typeof place === "number") alike.splice(place, 0, known);
  }

  /** Descriptors of one description agree in all of this, so only those few need to be compared by the kernel. */
  #alikeTo({ link, info }: Seen): Known[] {
    const key = `${link}\0${info.flags & ~O_CLOEXEC}\0${info.pos}`;
    let alike = this.#alike.get(key);
    if (alike === undefined) {
      alike = [];
      this.#alike.set(key, alike);
    }
    return alike;
  }
}

/** The same description in a list in the kernel's own order, or where it belongs. */
function search(sorted: readonly Known[], { pid, fd }: Seen): Known | number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    const there = sorted[middle] as Known;
    const order = kcmpFile({ pid, fd }, there);
    if (order === 0) return there;
    if (order < 0) high = middle;
    else low = middle + 1;
  }
  return low;
}
