/**
 * The ways to make images and to bring memory back, with each other: every value of every choice below meets every value of
 * every other one at least once. The process checks all of its memory as soon as it is back, some of it while it is still missing.
 */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, renameSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";

import { withTimeout } from "../harness/lane.js";
import { patienceMs } from "../harness/patience.js";
import { type Combination, allPairs } from "../harness/pairs.js";
import { isRoot, Subject, withSubject } from "../harness/subject.js";
import { floeOfFile } from "../harness/tool.js";

const CHOICES = {
  pages: ["plain", "lz4", "shared", "zstd-shared"],
  copied: ["in-the-freeze", "ahead", "by-a-copy"],
  chain: ["alone", "on-plain", "on-compressed", "used-up"],
  way: ["files", "stream", "page-server"],
  back: ["at-once", "lazily", "by-a-daemon"],
} as const;

type Way = Combination<typeof CHOICES>;

const PAGES: Record<Way["pages"], readonly string[]> = {
  plain: [],
  lz4: ["--compress", "lz4"],
  shared: ["--share-pages"],
  "zstd-shared": ["--compress", "zstd:2", "--share-pages"],
};

const COPIED: Record<Way["copied"], readonly string[]> = {
  "in-the-freeze": ["--pre-copy", "never", "--snapshot", "never"],
  ahead: ["--pre-copy", "always"],
  "by-a-copy": ["--pre-copy", "never", "--snapshot", "always"],
};

/** What cannot be by its nature, or is refused by name (docs/errors.md). */
function isPossible({ pages, chain, way, back }: Partial<Way>): boolean {
  // A stream leaves no files: neither for a daemon to read, nor in older images to be made smaller by it.
  if (way === "stream" && (back === "by-a-daemon" || chain === "used-up")) return false;
  // It is the server that stores, by its own options.
  return way !== "page-server" || chain === undefined || chain === "alone" || pages === undefined;
}

function floe(): readonly string[] {
  const tool = floeOfFile();
  if ("missing" in tool) throw new Error(tool.missing);
  return tool.command;
}

const logs = (subject: Subject): string => join(subject.folder, "logs");
const own = (): readonly string[] => floe().slice(0, -1);

async function preDump(subject: Subject, options: readonly string[]): Promise<void> {
  await subject.must(subject.commandLine(["pre-dump", "-t", String(subject.pid), ...options]));
  renameSync(subject.images, join(subject.folder, "before"));
  mkdirSync(subject.images, { mode: 0o700 });
}

async function prepareChain(subject: Subject, chain: Way["chain"]): Promise<string[]> {
  if (chain === "alone") return [];
  await preDump(subject, chain === "on-compressed" ? PAGES.lz4 : []);
  return ["--prev-images-dir", "../before", ...(chain === "used-up" ? ["--auto-dedup"] : [])];
}

/** The workload dies of it. */
async function dump(subject: Subject, { way, pages, copied }: Way, chain: readonly string[]): Promise<void> {
  const end = subject.lane.nextExit(subject.pid);
  if (way === "stream") {
    const older = chain.map((word) => (word === "../before" ? "before" : word));
    const words = [...own(), "dump", String(subject.pid), "-o", "-", ...PAGES[pages], ...COPIED[copied], ...older];
    await subject.must(["sh", "-c", `${words.join(" ")} > stream`]);
  } else if (way === "page-server") {
    const socket = join(subject.folder, "socket");
    await subject.must(subject.commandLine(["page-server", "-d", "--address", socket, ...PAGES[pages], ...chain]));
    await subject.must(subject.dumpLine(["--page-server", "--address", socket, ...COPIED[copied], ...chain]));
  } else {
    await subject.must(subject.dumpLine([...PAGES[pages], ...COPIED[copied], ...chain]));
  }
  assert.equal((await withTimeout(end, patienceMs, "The end of the dumped process")).signal, 9);
  await subject.untilAlone([]);
}

async function restore(subject: Subject, { way, back, chain }: Way): Promise<void> {
  if (way === "stream") {
    const older = chain === "alone" ? "" : "--prev-images-dir before";
    await subject.must(["sh", "-c", `${own().join(" ")} restore - -d ${back === "lazily" ? "--lazy" : ""} ${older} < stream`]);
  } else if (back === "lazily") {
    await subject.must([...own(), "restore", "--lazy", "-d", "--work-dir", logs(subject), subject.images]);
  } else if (back === "by-a-daemon") {
    await subject.must(subject.commandLine(["lazy-pages", "-d"]));
    await subject.until(() => existsSync(join(logs(subject), "lazy-pages.socket")), "The daemon does not wait");
    await subject.must(subject.restoreLine(["--lazy-pages"]));
  } else {
    await subject.must(subject.restoreLine());
  }
}

describe("no way excludes another", { concurrency: 2, skip: isRoot ? false : "needs root" }, () => {
  for (const way of allPairs(CHOICES, isPossible)) {
    // Relatives with pages in common are of interest where such pages are stored once. They look at the flags of their mappings,
    // which tell of memory that is still missing.
    const workload = way.pages === "shared" && way.back === "at-once" ? "memory/inherited" : "precopy/torture";
    const title = Object.entries(way).map(([choice, value]) => `${choice} ${value}`);
    test(`${workload}: ${title.join(", ")}`, () =>
      withSubject(Subject.withWorkload(workload), async (subject) => {
        await dump(subject, way, await prepareChain(subject, way.chain));
        const isStored = readdirSync(subject.images).some((name) => name.startsWith("floe-page-store"));
        if (way.way !== "stream") assert.equal(isStored, way.pages !== "plain", readdirSync(subject.images).join(" "));
        while (subject.lane.hasExited(subject.pid)) await subject.lane.nextExit(subject.pid);
        await restore(subject, way);
        subject.wasRestoredByOther();
        await subject.judge();
      }));
  }
});
