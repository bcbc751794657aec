/**
 * A process that comes from another kernel: a vdso that gcc made, with its functions elsewhere and a page less, is put into
 * the images. All functions in it are traps.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { DirectorySink } from "../../src/images/sink.js";
import { DirectorySource } from "../../src/images/source.js";
import { AREA } from "../../src/resources/memory/area.js";
import { mmEntry } from "../../src/resources/memory/mm.schema.js";
import { pagemapEntry, pagemapHead } from "../../src/resources/memory/pagemap.schema.js";
import { vdsoFunctions } from "../../src/resources/memory/vdso-elf.js";
import { ImageFolder } from "../harness/images.js";
import { isRoot, Subject, withSubject } from "../harness/subject.js";

const PAGE = 4096;
const PAGES = 1;
const functions = ["__vdso_getcpu", "__vdso_time", "__vdso_gettimeofday", "__vdso_clock_gettime", "__vdso_of_another_kernel"];
const script = `SECTIONS { . = SIZEOF_HEADERS; .hash : { *(.hash) } :text .gnu.hash : { *(.gnu.hash) } .dynsym : { *(.dynsym) }
  .dynstr : { *(.dynstr) } .dynamic : { *(.dynamic) } :text :dynamic . = ${PAGE / 2}; .text : { *(.text*) } :text
  /DISCARD/ : { *(.note*) *(.comment) *(.eh_frame*) } }
PHDRS { text PT_LOAD FLAGS(5) FILEHDR PHDRS; dynamic PT_DYNAMIC FLAGS(4); }`;

let folder = "";
let vdso = "";

function makeVdso(hash: string): Buffer {
  const source = functions.map((name) => `.globl ${name}\n.type ${name},@function\n.p2align 6\n${name}: ud2\n.fill 40,1,0xcc\n`);
  writeFileSync(join(folder, "a.s"), `.text\n${source.join("")}`);
  writeFileSync(join(folder, "a.lds"), script);
  const out = join(folder, "a.so");
  const link = ["-Wl,-T", join(folder, "a.lds"), `-Wl,--hash-style=${hash}`, "-Wl,--build-id=none"];
  execFileSync("gcc", ["-shared", "-nostdlib", ...link, join(folder, "a.s"), "-o", out]);
  return Buffer.concat([readFileSync(out), Buffer.alloc(PAGES * PAGE)]).subarray(0, PAGES * PAGE);
}

/** Puts `bytes` in the place of the saved vdso. */
function replaceVdso(images: string, pid: number, bytes: Buffer): void {
  const source = new DirectorySource(images);
  const mm = source.single("MM", [pid], mmEntry);
  const { head, records } = source.headed("PAGEMAP", [pid], { head: pagemapHead, record: pagemapEntry });
  source.close();
  const area = mm.vmas.find((vma) => vma.status & AREA.VDSO);
  assert.ok(area !== undefined && head !== undefined);
  const oldBytes = Number(area.end - area.start);
  area.end = area.start + BigInt(bytes.length);
  const at = records.findIndex((entry) => entry.vaddr === area.start);
  assert.equal((records[at]?.compat_nr_pages ?? 0) * PAGE, oldBytes);
  (records[at] as (typeof records)[number]).compat_nr_pages = bytes.length / PAGE;
  const offset = records.slice(0, at).reduce((sum, entry) => sum + entry.compat_nr_pages * PAGE, 0);
  const raw = join(images, `pages-${head.pages_id}.img`);
  const pages = readFileSync(raw);
  writeFileSync(raw, Buffer.concat([pages.subarray(0, offset), bytes, pages.subarray(offset + oldBytes)]));
  const sink = new DirectorySink(images);
  sink.append("MM", [pid], { type: mmEntry, value: mm });
  sink.append("PAGEMAP", [pid], { type: pagemapHead, value: head });
  for (const value of records) sink.append("PAGEMAP", [pid], { type: pagemapEntry, value });
  sink.finish();
}

describe("a vdso of another build", { skip: isRoot ? false : "needs root" }, () => {
  before(() => {
    folder = mkdtempSync(join(tmpdir(), "floe-vdso-"));
    vdso = join(folder, "vdso");
    writeFileSync(vdso, makeVdso("gnu"));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  test("its functions are found by either hash table; damage is told", () => {
    for (const hash of ["gnu", "sysv"]) {
      const bytes = makeVdso(hash);
      const found = vdsoFunctions(bytes);
      assert.ok(typeof found !== "string", String(found));
      assert.deepEqual([...found.keys()].sort(), [...functions].sort());
      for (let at = 0; at < 0x400; at++) {
        const bad = Buffer.from(bytes);
        bad[at] = 0xff;
        vdsoFunctions(bad); // any answer, but no other error
        vdsoFunctions(bytes.subarray(0, at));
      }
    }
    assert.equal(typeof vdsoFunctions(Buffer.alloc(PAGE)), "string");
  });

  test("goes on in this kernel's, and does so when it is dumped and restored again", () =>
    withSubject(Subject.withWorkload("memory3/other-vdso", [vdso]), async (subject) => {
      await subject.dump();
      replaceVdso(subject.images, subject.pid, readFileSync(vdso));
      await subject.restore();
      await new Promise((done) => setTimeout(done, 100));
      await subject.dump();
      await subject.restore();
      await new Promise((done) => setTimeout(done, 100));
      await subject.judge();
    }));

  test("that is damaged is told before anything is made", () =>
    withSubject(Subject.withWorkload("memory3/other-vdso", [vdso]), async (subject) => {
      await subject.dump();
      const images = new ImageFolder(subject.images, join(subject.folder, "intact"));
      replaceVdso(subject.images, subject.pid, Buffer.alloc(PAGES * PAGE));
      const { exit, text } = await subject.run(subject.restoreLine());
      assert.equal(exit.code, 1, text);
      assert.ok(text.includes("[IMAGE_BAD_VALUE]") && text.includes("no vdso"), text);
      images.reset();
      await subject.restore();
      await subject.judge();
    }));
});
