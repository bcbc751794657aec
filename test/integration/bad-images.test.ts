/**
 * Bad images, and files and pids that are not as they were: each is told by a typed error that names the thing and a way
 * out, all of them at once, before anything is made. Then random damage: it never ends in a crash, a hang or a leftover.
 */
import assert from "node:assert/strict";
import { chmodSync, copyFileSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { describeError } from "../../src/cli/report.js";
import { loadTasks } from "../../src/engine/restore-load.js";
import { ImageError, KernelError, Problems, Refusal, UsageError } from "../../src/errors.js";
import { inventoryEntry } from "../../src/images/inventory.schema.js";
import { DirectorySource } from "../../src/images/source.js";
import { fdinfoEntry } from "../../src/resources/files/table.schema.js";
import { type MmEntry, mmEntry } from "../../src/resources/memory/mm.schema.js";
import { coreEntry } from "../../src/resources/tasks/core.schema.js";
import { pstreeEntry } from "../../src/resources/tasks/tree.schema.js";
import { compileWorkload } from "../harness/compile.js";
import { ImageFolder, randomNumbers } from "../harness/images.js";
import { describeExit } from "../harness/lane.js";
import { patienceMs } from "../harness/patience.js";
import { isRoot, type Outcome, Subject } from "../harness/subject.js";

/** Images that a restore does not need: without them, and whatever is in them, all is well. */
const unneeded = ["seccomp.img", "stats-dump", "timens-0.img"];
const hangMs = patienceMs;
const mutationsRead = 2000;
const mutationsRestored = Number(process.env["FLOE_MUTATIONS"] ?? "60");
const skip = isRoot ? false : "needs root";

interface Damage {
  readonly name: string;
  readonly what: string;
  /** The image's content; undefined: there is no such image. */
  readonly bytes?: Buffer;
  readonly patterns?: readonly RegExp[];
}

/** A subject that was dumped, and its images. */
class Dumped {
  readonly subject: Subject;
  readonly images: ImageFolder;
  readonly program: string;
  readonly progress: string;
  readonly #out: string;

  private constructor(subject: Subject, program: string) {
    this.subject = subject;
    this.program = program;
    this.progress = join(subject.folder, "work", "progress");
    this.#out = subject.report();
    this.images = new ImageFolder(subject.images, join(subject.folder, "intact"));
  }

  static async make(): Promise<Dumped> {
    const subject = await Subject.open();
    // A hundred restores and more, most of which end soon after they have begun.
    const program = join(subject.folder, "steady");
    copyFileSync(await compileWorkload("harm/steady"), program);
    await subject.start([program, join(subject.folder, "go"), "1"], () => /^ready$/m.test(subject.report()));
    await subject.dump();
    return new Dumped(subject, program);
  }

  get pid(): number {
    return this.subject.pid;
  }

  /** A restore of the images as they are now. */
  restore(): Promise<Outcome> {
    return this.subject.run(this.subject.restoreLine(), hangMs);
  }

  /** A restore that must fail as it should. */
  async mustRefuse(...patterns: readonly RegExp[]): Promise<void> {
    const { exit, text } = await this.restore();
    assert.equal(exit.code, 1, `It ${describeExit(exit)}: ${text}`);
    assert.equal(mustTell(text, patterns), undefined);
    await this.subject.untilAlone([]);
  }

  /** Damages the images, sees the restore fail, and mends them. */
  async damaged(damage: (images: ImageFolder) => void, ...patterns: readonly RegExp[]): Promise<void> {
    try {
      damage(this.images);
      await this.mustRefuse(...patterns);
    } catch (error) {
      // The tests that follow find the lane as empty as it was.
      await this.subject.lane.sweep();
      throw error;
    } finally {
      this.images.reset();
    }
  }

  /**
   * The same for many images, which are all tried before the first failure is told. What reading alone finds wrong is not
   * given to a restore each time, but to the first: that takes a thousandth of the time.
   */
  async eachDamaged(damages: readonly Damage[]): Promise<void> {
    const failures: string[] = [];
    for (const [i, { name, bytes, what, patterns = [] }] of damages.entries()) {
      const damage = (images: ImageFolder) => (bytes === undefined ? images.remove(name) : images.write(name, bytes));
      const expected = [literally(name), ...patterns];
      damage(this.images);
      const error = readingError(this.images);
      this.images.reset();
      const isSeen = error !== undefined && isTyped(error) && mustTell(describeError(error), expected) === undefined;
      if (isSeen && i > 0) continue;
      await this.damaged(damage, ...expected).catch((failure: unknown) => {
        failures.push(`${name}, ${what}: ${failure instanceof Error ? failure.message : String(failure)}`);
      });
    }
    assert.equal(failures.join("\n\n"), "");
  }

  /** Files of the process as they were at the dump: one made from damaged images may have changed them. */
  mendFiles(): void {
    truncateSync(this.progress, 4096);
    writeFileSync(join(this.subject.folder, "out"), this.#out);
  }
}

/** What a message lacks; undefined when it tells everything it should. */
function mustTell(text: string, patterns: readonly RegExp[]): string | undefined {
  if (text.includes("This is a bug of Floe")) return `It is a crash: ${text}`;
  const lacking = [/\[[A-Z_]+\]/, /^ +Try: /m, ...patterns].find((pattern) => !pattern.test(text));
  return lacking === undefined ? undefined : `There is no ${lacking} in: ${text}`;
}

const literally = (text: string): RegExp => new RegExp(text.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&"));

describe("bad images", { skip }, () => {
  let dumped: Dumped;
  let needed: string[] = [];
  before(async () => {
    dumped = await Dumped.make();
    needed = dumped.images.names().filter((name) => !unneeded.includes(name));
  });
  after(() => dumped.subject.close());

  const framed = () => needed.filter((name) => !name.startsWith("pages-"));

  test("each image missing", () => dumped.eachDamaged(needed.map((name) => ({ name, what: "missing" }))));

  test("each image cut off: in its magic, in a length, in a record, before its last byte", () =>
    dumped.eachDamaged(
      framed().flatMap((name) => {
        const intact = dumped.images.intact(name);
        const lengths = [0, 2, 10, 13, intact.length - 1].filter((length) => length < intact.length);
        return lengths.map((length) => ({ name, what: `only ${length} bytes`, bytes: intact.subarray(0, length) }));
      }),
    ));

  test("pages cut off", () =>
    dumped.damaged((images) => images.write("pages-1.img", images.intact("pages-1.img").subarray(0, 4096)), /pages-1\.img/));

  test("each image with the magic of nothing, and of another kind", () =>
    dumped.eachDamaged(
      framed().flatMap((name) =>
        [0, name === "inventory.img" ? 1 : 4].map((at) => {
          const bytes = Buffer.from(dumped.images.intact(name));
          bytes.writeUInt8(bytes.readUInt8(at) ^ 0x55, at);
          return { name, what: `another byte ${at}`, bytes, patterns: [/IMAGE_BAD_FRAMING/] };
        }),
      ),
    ));

  test("each image with a record of impossible length", () =>
    dumped.eachDamaged(
      framed().flatMap((name) =>
        [0xffffffff, 0x7fffffff, 0x100000].map((length) => {
          const bytes = Buffer.from(dumped.images.intact(name));
          bytes.writeUInt32LE(length, name === "inventory.img" ? 4 : 8);
          return { name, what: `a record of ${length} bytes`, bytes, patterns: [/IMAGE_BAD_FRAMING/] };
        }),
      ),
    ));

  test("a pagemap that ends too early, between two records", () =>
    dumped.damaged(
      (images) => images.write(`pagemap-${dumped.pid}.img`, images.intact(`pagemap-${dumped.pid}.img`).subarray(0, 14)),
      literally(`pagemap-${dumped.pid}.img`),
    ));

  test("another version", () =>
    dumped.damaged(
      (images) =>
        images.edit({ kind: "INVENTORY", ids: [], type: inventoryEntry }, (all) => all.map((one) => ({ ...one, img_version: 77 }))),
      /inventory\.img/,
      /version 77/,
      /IMAGE_OTHER_VERSION/,
    ));

  test("a descriptor whose file is not there", () =>
    dumped.damaged(
      // The table's id is 1 or any other: the only image of the kind.
      (images) =>
        images.edit({ kind: "FDINFO", ids: [tableId(images)], type: fdinfoEntry }, (all) => all.map((one) => ({ ...one, id: 999 }))),
      /999/,
    ));

  test("a mapping whose file is not there", () =>
    dumped.damaged(
      (images) =>
        images.edit({ kind: "MM", ids: [dumped.pid], type: mmEntry }, (all) =>
          all.map((one) => ({ ...one, vmas: one.vmas.map((vma) => (vma.shmid === 0n ? vma : { ...vma, shmid: 4711n })) })),
        ),
      /4711/,
    ));

  test("an executable that is not there", () =>
    dumped.damaged((images) =>
      images.edit({ kind: "MM", ids: [dumped.pid], type: mmEntry }, (all) => all.map((one) => ({ ...one, exe_file_id: 999 }))),
    ));

  test("a process that leaves no room for what the restore needs", () =>
    dumped.damaged(
      (images) =>
        images.edit({ kind: "MM", ids: [dumped.pid], type: mmEntry }, (all) => all.map((one) => ({ ...one, vmas: withoutGaps(one.vmas) }))),
      /NO_COMMON_ROOM/,
    ));

  test("a filter of system calls that is not there", () =>
    dumped.damaged(
      (images) =>
        images.edit({ kind: "CORE", ids: [dumped.pid], type: coreEntry }, (all) =>
          all.map((one) => (one.thread_core ? { ...one, thread_core: { ...one.thread_core, seccomp_mode: 2, seccomp_filter: 77 } } : one)),
        ),
      /IMAGE_BAD_REFERENCE/,
      /77/,
    ));

  test("a process whose parent is not there, that is there twice, or whose thread is not there", async () => {
    const pstree = { kind: "PSTREE", ids: [], type: pstreeEntry } as const;
    await dumped.damaged(
      (images) => images.edit(pstree, (all) => [...all, ...all.map((one) => ({ ...one, pid: 4000, ppid: 4711, threads: [4000] }))]),
      /4711/,
      /core-4000\.img/,
    );
    await dumped.damaged((images) => images.edit(pstree, (all) => [...all, ...all]), literally(String(dumped.pid)));
    await dumped.damaged((images) => images.edit(pstree, (all) => all.map((one) => ({ ...one, threads: [...one.threads, 4711] }))), /4711/);
    await dumped.damaged((images) => images.edit(pstree, () => []), /pstree\.img/);
  });

  test("a processor or a state that does not exist", async () => {
    const core = { kind: "CORE", ids: [dumped.pid], type: coreEntry } as const;
    const name = literally(`core-${dumped.pid}.img`);
    await dumped.damaged((images) => images.edit(core, (all) => all.map((one) => ({ ...one, mtype: 2 }))), name);
    await dumped.damaged(
      (images) => images.edit(core, (all) => all.map((one) => (one.tc ? { ...one, tc: { ...one.tc, task_state: 99 } } : one))),
      name,
      /99/,
    );
  });

  test("a pid that is taken", async () => {
    const taker = await takePid(dumped.subject);
    try {
      const { exit, text } = await dumped.restore();
      assert.equal(exit.code, 1, text);
      assert.match(text, /PID_TAKEN/);
      assert.match(text, literally(`process id ${dumped.pid}`));
      assert.match(text, /"sleep"/);
      await dumped.subject.untilAlone([taker]);
    } finally {
      await endTaker(dumped.subject, taker);
    }
  });

  test("a mapped file that is gone, or of another size or mode", async () => {
    const { progress } = dumped;
    renameSync(progress, `${progress}.away`);
    await dumped.mustRefuse(literally(progress));
    renameSync(`${progress}.away`, progress);
    truncateSync(progress, 100);
    await dumped.mustRefuse(literally(progress), /size/);
    truncateSync(progress, 4096);
    chmodSync(progress, 0o644);
    await dumped.mustRefuse(literally(progress), /mode|permission/);
    chmodSync(progress, 0o600);
  });

  test("a program that is gone, or another build", async () => {
    const { program } = dumped;
    renameSync(program, `${program}.away`);
    await dumped.mustRefuse(literally(program));
    const bytes = readFileSync(`${program}.away`);
    // An ELF note: length of its name (4), of the id (20), its kind (3: NT_GNU_BUILD_ID), its name; then the id.
    const note = bytes.indexOf(Buffer.from("040000001400000003000000474e5500", "hex"));
    assert.ok(note > 0);
    bytes.writeUInt8(bytes.readUInt8(note + 20) ^ 0xff, note + 20);
    writeFileSync(program, bytes, { mode: 0o755 });
    await dumped.mustRefuse(literally(program), /build/i);
    rmSync(program);
    renameSync(`${program}.away`, program);
  });

  test("all at once: what is wrong with files and pids is told in one go", async () => {
    const { progress, program } = dumped;
    const taker = await takePid(dumped.subject);
    for (const path of [progress, program]) renameSync(path, `${path}.away`);
    try {
      const { exit, text } = await dumped.restore();
      assert.equal(exit.code, 1, text);
      for (const thing of [progress, program, `process id ${dumped.pid}`]) assert.match(text, literally(thing));
      assert.match(text, /[3-9] problems were found; nothing was done/);
    } finally {
      for (const path of [progress, program]) renameSync(`${path}.away`, path);
      await endTaker(dumped.subject, taker);
    }
  });

  test("all at once: what is wrong with images of several kinds is told in one go", () =>
    dumped.damaged(
      (images) => {
        images.remove(`core-${dumped.pid}.img`);
        images.edit({ kind: "PSTREE", ids: [], type: pstreeEntry }, (all) => [
          ...all,
          ...all.map((one) => ({ ...one, pid: 4000, ppid: one.pid, threads: [4000] })),
        ]);
      },
      literally(`core-${dumped.pid}.img`),
      /core-4000\.img/,
    ));

  test("the images are as good as ever", async () => {
    await dumped.subject.restore();
    await dumped.subject.judge();
  });
});

/** The mappings with others between them, which nobody can read. */
function withoutGaps(vmas: MmEntry["vmas"]): MmEntry["vmas"] {
  const top = 0x7fff_ffff_f000n;
  const [first] = vmas;
  assert.ok(first);
  const fill = (start: bigint, end: bigint) =>
    start < end ? [{ ...first, start, end, shmid: 0n, pgoff: 0n, prot: 0, flags: 0x22, status: 1 | (1 << 9), fd: -1n }] : [];
  const user = vmas.filter(({ end }) => end <= top);
  return [
    ...user.flatMap((vma, i) => [...fill(user[i - 1]?.end ?? 0x1_0000n, vma.start), vma]),
    ...fill(user.at(-1)?.end ?? top, top),
    ...vmas.filter(({ end }) => end > top),
  ];
}

function tableId(images: ImageFolder): number {
  const name = images.names().find((one) => one.startsWith("fdinfo-"));
  return Number(/\d+/.exec(name ?? "")?.[0]);
}

/** Starts a process that has the pid of the subject. */
async function takePid(subject: Subject): Promise<number> {
  await subject.must(["sh", "-c", `echo ${subject.pid - 1} > /proc/sys/kernel/ns_last_pid`]);
  const taker = await subject.lane.spawn({ argv: ["sleep", "1000"], cwd: "/", output: join(subject.folder, "taker") });
  // Or commands that come now get numbers that belong to threads of the images.
  await subject.must(["sh", "-c", "echo 20000 > /proc/sys/kernel/ns_last_pid"]);
  assert.equal(taker, subject.pid, "The pid could not be taken");
  return taker;
}

async function endTaker(subject: Subject, taker: number): Promise<void> {
  while (subject.lane.hasExited(taker)) await subject.lane.nextExit(taker);
  const end = subject.lane.nextExit(taker);
  subject.lane.kill(taker, "KILL");
  await end;
}

interface Mutation {
  readonly name: string;
  readonly bytes: Buffer;
  readonly what: string;
}

/** Damages one image: a byte, a bit, a length, a piece left out. */
function mutate(images: ImageFolder, names: readonly string[], random: (below: number) => number): Mutation {
  const name = names[random(names.length)] ?? "";
  const bytes = Buffer.from(images.intact(name));
  const at = random(bytes.length);
  const how = random(10);
  if (how < 4) {
    bytes.writeUInt8(random(256), at);
    return { name, bytes, what: `byte ${at} of ${name} is ${bytes[at]}` };
  }
  if (how < 8) {
    bytes.writeUInt8((bytes[at] ?? 0) ^ (1 << random(8)), at);
    return { name, bytes, what: `byte ${at} of ${name} is ${bytes[at]} (one bit)` };
  }
  if (how === 8) {
    const start = Math.max(0, Math.min(at, bytes.length - 4));
    bytes.writeUInt32LE(random(2) === 0 ? random(0x10000) : 0xffffff00 + random(256), start);
    return { name, bytes, what: `the word at ${start} of ${name} is ${bytes.readUInt32LE(start)}` };
  }
  const length = 1 + random(16);
  const rest = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)]);
  return { name, bytes: rest, what: `${length} bytes at ${at} of ${name} are left out` };
}

const isTyped = (error: unknown): boolean => [ImageError, Refusal, UsageError, KernelError, Problems].some((kind) => error instanceof kind);

/** What reading the images throws. */
function readingError(images: ImageFolder): unknown {
  try {
    const source = new DirectorySource(images.path);
    try {
      loadTasks(source);
      return undefined;
    } finally {
      source.close();
    }
  } catch (error) {
    return error;
  }
}

describe("randomly damaged images", { skip }, () => {
  let dumped: Dumped;
  const survivors: Mutation[] = [];
  before(async () => {
    dumped = await Dumped.make();
  });
  after(() => dumped.subject.close());

  test(`${mutationsRead} mutations are read, or refused by a typed error`, () => {
    const { images } = dumped;
    const random = randomNumbers(20260101);
    const names = images.names().filter((name) => !name.startsWith("pages-") && !unneeded.includes(name));
    for (let i = 0; i < mutationsRead; i++) {
      const mutation = mutate(images, names, random);
      images.write(mutation.name, mutation.bytes);
      const error = readingError(images);
      if (error === undefined) survivors.push(mutation);
      else assert.ok(isTyped(error), `${mutation.what}: ${error instanceof Error ? error.stack : String(error)}`);
      images.write(mutation.name, images.intact(mutation.name));
    }
  });

  test(`${mutationsRestored} of those that can be read are restored, or refused by a typed error`, async (context) => {
    const { images, subject } = dumped;
    let restored = 0;
    const step = Math.max(1, Math.floor(survivors.length / mutationsRestored));
    for (const mutation of survivors.filter((_, i) => i % step === 0).slice(0, mutationsRestored)) {
      images.write(mutation.name, mutation.bytes);
      const { exit, text } = await dumped.restore();
      images.write(mutation.name, images.intact(mutation.name));
      assert.ok(exit.code === 0 || exit.code === 1, `${mutation.what}: the restore ${describeExit(exit)}: ${text}`);
      assert.doesNotMatch(text, /This is a bug of Floe/, mutation.what);
      if (exit.code === 0) {
        restored += 1;
        await subject.lane.sweep();
      } else {
        assert.match(text, /\[[A-Z_]+\]/, mutation.what);
        await subject.untilAlone([]).catch((error: unknown) => assert.fail(`${mutation.what}: ${String(error)}: ${text}`));
      }
      dumped.mendFiles();
    }
    context.diagnostic(`${survivors.length} could be read; ${restored} were restored`);
  });
});
