/**
 * What `floe show` makes of images.
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ImageError } from "../../errors.js";
import { inventoryEntry } from "../../images/inventory.schema.js";
import { taskKobjIdsEntry } from "../../images/object-ids.schema.js";
import { DirectorySink } from "../../images/sink.js";
import { DirectorySource } from "../../images/source.js";
import { fdTypes, fdinfoEntry, fileEntry } from "../../resources/files/table.schema.js";
import { AREA } from "../../resources/memory/area.js";
import { mmEntry } from "../../resources/memory/mm.schema.js";
import { pagemapEntry, pagemapHead } from "../../resources/memory/pagemap.schema.js";
import { coreEntry } from "../../resources/tasks/core.schema.js";
import { pstreeEntry } from "../../resources/tasks/tree.schema.js";
import { readDump } from "./processes.js";
import { dumpText } from "./text.js";

const owner = { uid: 0, euid: 0, signum: 0, pid_type: 0, pid: 0 };

function core(comm: string, state: number, exitCode = 0) {
  const tc = { task_state: state, exit_code: exitCode, personality: 0, flags: 0, blk_sigset: 0n, comm };
  return { type: coreEntry, value: { mtype: 1, tc: { ...tc, sigactions: [] } } };
}

function mm() {
  const zero = { mm_start_code: 0n, mm_end_code: 0n, mm_start_data: 0n, mm_end_data: 0n, mm_start_stack: 0n, mm_start_brk: 0n, mm_brk: 0n };
  const area = { start: 0x1000n, end: 0x5000n, pgoff: 0n, shmid: 0n, prot: 3, flags: 0x22, fd: -1n };
  const vmas = [{ ...area, status: AREA.REGULAR | AREA.ANON_PRIVATE }];
  const strings = { mm_arg_start: 0n, mm_arg_end: 0n, mm_env_start: 0n, mm_env_end: 0n };
  return { type: mmEntry, value: { ...zero, ...strings, exe_file_id: 1, mm_saved_auxv: [], aios: [], guards: [], policies: [], vmas } };
}

/** A parent with a file and a dead child. */
function write(directory: string): void {
  const sink = new DirectorySink(directory);
  sink.append("INVENTORY", [], { type: inventoryEntry, value: { img_version: 2 } });
  sink.append("PSTREE", [], { type: pstreeEntry, value: { pid: 7, ppid: 0, pgid: 7, sid: 7, threads: [7, 8] } });
  sink.append("PSTREE", [], { type: pstreeEntry, value: { pid: 9, ppid: 7, pgid: 7, sid: 7, threads: [9] } });
  sink.append("CORE", [7], core("server\x1b[2J", 1));
  sink.append("CORE", [9], core("child", 3, 3 << 8));
  sink.append("IDS", [7], { type: taskKobjIdsEntry, value: { vm_id: 1, files_id: 1, fs_id: 1, sighand_id: 1 } });
  sink.append("MM", [7], mm());
  sink.append("PAGEMAP", [7], { type: pagemapHead, value: { pages_id: 1 } });
  sink.append("PAGEMAP", [7], { type: pagemapEntry, value: { vaddr: 0x1000n, compat_nr_pages: 2, flags: 4 } });
  sink.append("PAGEMAP", [7], { type: pagemapEntry, value: { vaddr: 0x3000n, compat_nr_pages: 1, flags: 1 } });
  const reg = { id: 1, flags: 0, pos: 42n, fown: owner, name: "/bin/server", build_id: [] };
  sink.append("FILES", [], { type: fileEntry, value: { type: fdTypes.values.REG, id: 1, reg } });
  sink.append("FDINFO", [1], { type: fdinfoEntry, value: { id: 1, flags: 1, type: fdTypes.values.REG, fd: 5 } });
  sink.append("FDINFO", [1], { type: fdinfoEntry, value: { id: 99, flags: 0, type: fdTypes.values.REG, fd: 3 } });
  sink.finish();
}

function withDirectory(action: (directory: string) => void): void {
  const directory = mkdtempSync(join(tmpdir(), "floe-show-"));
  try {
    action(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

test("processes, memory and files of images", () => {
  withDirectory((directory) => {
    write(directory);
    const dump = readDump(new DirectorySource(directory));
    assert.deepEqual(
      dump.processes.map(({ pid, state, threads, savedBytes, exe, exitStatus }) => ({ pid, state, threads, savedBytes, exe, exitStatus })),
      [
        { pid: 7, state: "alive", threads: [7, 8], savedBytes: 8192, exe: "/bin/server", exitStatus: undefined },
        { pid: 9, state: "zombie", threads: [9], savedBytes: 0, exe: undefined, exitStatus: 3 << 8 },
      ],
    );
    assert.deepEqual(dump.processes[0]?.memory, [{ kind: "private anonymous", mappings: 1, mappedBytes: 16384 }]);
    assert.deepEqual(dump.processes[0]?.files, [
      { fd: 3, id: 99, closeOnExec: false, kind: "missing", name: "no file has id 99" },
      { fd: 5, id: 1, closeOnExec: true, kind: "file", name: "/bin/server", offsetBytes: 42 },
    ]);
    JSON.stringify(dump);
  });
});

test("the text shows the tree, and no control characters", () => {
  withDirectory((directory) => {
    write(directory);
    const text = dumpText(readDump(new DirectorySource(directory)));
    assert.match(text, /2 processes, 3 threads, 8\.0 KiB of memory saved/);
    assert.match(text, /^7 server\\x1b\[2J \(2 threads\)\n {2}9 child \(zombie, exit code 3\)$/m);
    assert.ok(!text.includes("\x1b"));
  });
});

test("a directory without images is refused by the image that is missing", () => {
  withDirectory((directory) => {
    assert.throws(
      () => readDump(new DirectorySource(directory)),
      (error) => error instanceof ImageError && error.place.file === "inventory.img",
    );
  });
});
