/**
 * Takes the place of the package koffi inside the executable, as far as src/linux/ffi uses it: Bun has an FFI of its own,
 * which is there from the start, while koffi's module would have to be written to a file and loaded from it
 * (docs/decisions/0015-ffi-of-the-executable.md).
 *
 * System calls go through 26 bytes of machine code of ours, which are in the executable (engine-options.mjs puts them there): the
 * kernel's own result comes back, so nothing can overwrite errno before it is read.
 */
import { CFunction, dlopen, ptr, toArrayBuffer } from "bun:ffi";

import { CODE_ADDRESS } from "./machine-code.mjs";

const EPERM = 1;

/** An integer or address either way: a number where it is exact, or else a bigint. */
const WORD = "i64_fast";
const words = (count) => Array(count).fill(WORD);

/** The functions of the C library that src/linux/ffi calls, and where they are: before glibc 2.34 not all were in libc.so.6. */
const FUNCTIONS = {
  posix_spawn: { args: words(6), returns: "i32", libraries: ["libc.so.6"] },
  dlopen: { args: words(2), returns: WORD, libraries: ["libc.so.6", "libdl.so.2"] },
  dlsym: { args: words(2), returns: WORD, libraries: ["libc.so.6", "libdl.so.2"] },
  pthread_create: { args: words(4), returns: "i32", libraries: ["libc.so.6", "libpthread.so.0"] },
  pthread_join: { args: words(2), returns: "i32", libraries: ["libc.so.6", "libpthread.so.0"] },
};

function find(name, { args, returns, libraries }) {
  for (const [i, library] of libraries.entries()) {
    try {
      return dlopen(library, { [name]: { args, returns } }).symbols[name];
    } catch (error) {
      if (i === libraries.length - 1) throw error;
    }
  }
}

function makeSyscall() {
  if (process.arch !== "x64") throw new Error(`Cannot make system calls on ${process.arch}`);
  const call = CFunction({ ptr: CODE_ADDRESS, args: words(7), returns: WORD });
  return (nr, a = 0, b = 0, c = 0, d = 0, e = 0, f = 0) => call(nr, a, b, c, d, e, f);
}

/**
 * Address of the first byte of `memory`, which stays the same from now on.
 *
 * The engine keeps the bytes of a small array in its heap until somebody asks for the ArrayBuffer behind it, and moves them then:
 * an address from before would be that of memory which is no longer the array's. So it is asked for first.
 */
function addressOf(memory) {
  // Of no bytes, also inside a larger buffer, the engine has no address.
  return memory.buffer.byteLength === 0 || memory.byteLength === 0 ? 0 : ptr(memory);
}

/** An integer as it is; nothing, the address of memory, or of a string with its closing zero. */
function argument(value, keep) {
  if (value === null) return 0;
  if (typeof value === "number" || typeof value === "bigint") return value;
  const bytes = typeof value === "string" ? Buffer.from(`${value}\0`) : value;
  keep.push(bytes);
  return addressOf(bytes);
}

let lastFunction = { ptr: 0, called: undefined };

/** Machine code of ours as a function. To make one takes longer than most calls: the last is kept. */
function functionAt(ptr) {
  if (lastFunction.ptr !== ptr) lastFunction = { ptr, called: CFunction({ ptr, args: [WORD], returns: WORD }) };
  return lastFunction.called;
}

let syscall;

function theSyscall() {
  syscall ??= makeSyscall();
  return syscall;
}

const library = {
  /** The functions that are used; anything else is a fault of ours. */
  func(prototype) {
    const [, name] = / \*?(\w+)\(/.exec(prototype);
    if (name === "syscall") return theSyscall();
    if (!(name in FUNCTIONS)) throw new Error(`internal error: no ${prototype} in the executable`);
    const called = find(name, FUNCTIONS[name]);
    return (...args) => {
      const keep = [];
      const result = called(...args.map((value) => argument(value, keep)));
      return keep.length >= 0 ? result : 0;
    };
  },
};

export default {
  load: () => library,
  address: (memory) => BigInt(addressOf(memory)),
  /** A result of -1 is an error number like any other here. */
  errno: () => EPERM,
  view: (address, length) => toArrayBuffer(Number(address), 0, length),
  proto: () => undefined,
  call: (address, _prototype, value) => functionAt(Number(address))(argument(value, [])),
};
