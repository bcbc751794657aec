/**
 * Giving back the room of pages in older images that a newer image has as well (`criu dedup`, --auto-dedup).
 *
 * Holes are punched, so sizes and offsets stay. What is left of the older images serves the newer ones only.
 */
import { readdirSync } from "node:fs";
import { IMAGE_KINDS, imageFileName } from "../images/kinds.js";
import { DirectorySource } from "../images/source.js";
import { intersection } from "../resources/memory/page-ranges.js";
import { type PagemapName, type StoredRun, openPageSource, partOf } from "../resources/memory/page-source.js";

/** Goes through a whole chain, from `directory` to the oldest; returns the bytes that were given back. */
export function dedupChain(directory: string): number {
  const source = new DirectorySource(directory);
  let freed = 0;
  try {
    for (let newer: DirectorySource | undefined = source; newer !== undefined; newer = newer.parent()) freed += dedupOne(newer);
    return freed;
  } finally {
    source.close();
  }
}

/** Only for what the images in `directory` have themselves: the older ones among each other were done before. */
export function dedupAgainst(directory: string): number {
  const source = new DirectorySource(directory);
  try {
    return dedupOne(source);
  } finally {
    source.close();
  }
}

/** Punches all pages of `runs` out of the images: for a restore, which needs them no more. */
export function punchRuns(runs: readonly StoredRun[]): number {
  return runs.reduce((freed, { start, end, file, offset }) => freed + file.punch(offset, end - start), 0);
}

/** The same for all memory that processes share. */
export function punchShared(images: DirectorySource): void {
  for (const name of pagemapsOf(images.directory)) if (name.kind === "SHMEM_PAGEMAP") punchRuns(openPageSource(images, name).runs);
}

function dedupOne(newer: DirectorySource): number {
  const parent = newer.parent();
  if (parent === undefined) return 0;
  let freed = 0;
  for (const name of pagemapsOf(newer.directory)) {
    const old = openPageSource(parent, name).runs;
    const inherited = new Set(old.map((run) => run.file));
    const own = openPageSource(newer, name).runs.filter((run) => !inherited.has(run.file));
    freed += punchRuns(covered(old, own));
  }
  return freed;
}

/** The parts of `old` that `own` overrides; both ascend. */
function covered(old: readonly StoredRun[], own: readonly StoredRun[]): StoredRun[] {
  const parts: StoredRun[] = [];
  let at = 0;
  for (const { start, end } of intersection(old, own)) {
    while ((old[at] as StoredRun).end <= start) at++;
    parts.push(partOf(old[at] as StoredRun, start, end));
  }
  return parts;
}

/** The pagemaps of a directory. */
function pagemapsOf(directory: string): PagemapName[] {
  const names = readdirSync(directory);
  return (["PAGEMAP", "SHMEM_PAGEMAP"] as const).flatMap((kind) => {
    const pattern = new RegExp(`^${IMAGE_KINDS[kind].file.replaceAll(".", "\\.").replace("%u", "(\\d+)")}$`);
    return names.flatMap((file) => {
      const id = pattern.exec(file)?.[1];
      return id === undefined || imageFileName(kind, [BigInt(id)]) !== file ? [] : [{ kind, id: BigInt(id) }];
    });
  });
}
