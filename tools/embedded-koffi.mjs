/**
 * Takes the place of the package koffi inside the executable: its native module comes from the executable itself.
 *
 * The dynamic loader wants a file. One without a name (O_TMPFILE) serves, is gone with the process, and cannot be
 * swapped by anybody on the way, unlike a file in /tmp.
 */
import { closeSync, openSync, readFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";

import embedded from "./koffi.bin" with { type: "file" };

/** fcntl.h; node:fs has no name for it. */
const O_RDWR = 0o2;
const O_TMPFILE = 0o20200000;

function loadFrom(folder, bytes) {
  const fd = openSync(folder, O_RDWR | O_TMPFILE, 0o700);
  try {
    for (let written = 0; written < bytes.length; ) written += writeSync(fd, bytes, written);
    const module = { exports: {} };
    process.dlopen(module, `/proc/self/fd/${fd}`);
    return module.exports;
  } finally {
    closeSync(fd);
  }
}

function load() {
  const bytes = readFileSync(embedded);
  const problems = [];
  // A folder may be read-only, mounted noexec, or on a file system without O_TMPFILE.
  for (const folder of ["/dev/shm", "/run", tmpdir(), "/var/tmp", "."]) {
    try {
      return loadFrom(folder, bytes);
    } catch (error) {
      problems.push(`${folder}: ${error.message}`);
    }
  }
  throw new Error(`Cannot load the native module from any folder:\n${problems.join("\n")}`);
}

export default load();
