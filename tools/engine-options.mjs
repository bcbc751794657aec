/**
 * Engine options in the executable itself: Bun's JavaScript engine reads its options from the environment and nowhere
 * else, and a command that lives 50 ms loses a fifth of them to compiling functions that run a few times
 * (docs/decisions/0006-engine-options.md). So the ELF entry point becomes some 60 bytes of ours, which put two more
 * variables before those that the kernel passed, and go on to where the program began. The same page holds the few instructions of a system
 * call, for embedded-ffi.mjs: to map memory for them would take two more functions of the C library.
 *
 * What is relied on is checked, and the build fails when it is not so: a dynamically linked ET_EXEC for x86-64 that has
 * `environ` by copy relocation (so that its address is known), and a note segment, whose program header is turned into
 * one that maps the new code.
 */
import { readFileSync, writeFileSync } from "node:fs";

import { CODE_ADDRESS, SYSCALL_CODE } from "./machine-code.mjs";

const PT_LOAD = 1;
const PT_NOTE = 4;
const PF_X = 1;
const PF_R = 4;
const SHT_RELA = 4;
const SHT_DYNSYM = 11;
const R_X86_64_COPY = 5n;
const PAGE = 0x1000;
/** Of e_entry in the ELF header. */
const ENTRY_PLACE = 24;
const ENTRY_SIZE = { program: 56, section: 64, symbol: 24, relocation: 24 };

/** Functions that run seldom stay with the interpreter; loops of a big dump are compiled all the same. */
export const ENGINE_OPTIONS = ["BUN_JSC_thresholdForJITAfterWarmUp=5000", "BUN_JSC_thresholdForOptimizeAfterWarmUp=20000"];

/** Puts ENGINE_OPTIONS into the executable `path`, in place. Throws when it is not built as expected. */
export function addEngineOptions(path) {
  const elf = readFileSync(path);
  const isExpected = elf.readUInt32BE(0) === 0x7f454c46 && elf.readUInt16LE(16) === 2 && elf.readUInt16LE(18) === 62;
  if (!isExpected) throw new Error(`${path} is not an executable (ET_EXEC) for x86-64`);
  const { header: note, end: programEnd } = findNote(elf, path);
  const environ = findEnviron(elf, path);
  // At the very end of the file, on a page of its own; nothing is moved.
  const offset = Math.ceil(elf.length / PAGE) * PAGE;
  const address = CODE_ADDRESS;
  if (programEnd > address) throw new Error(`${path} ends at 0x${programEnd.toString(16)}: there is no room for our code`);
  const syscall = Buffer.from(SYSCALL_CODE, "hex");
  const own = elf.subarray(ENTRY_PLACE, ENTRY_PLACE + 8);
  const entry = address + syscall.length + own.length;
  const code = Buffer.concat([syscall, own, entryCode({ address: entry, environ, next: Number(own.readBigUInt64LE(0)) })]);
  const patched = Buffer.concat([elf, Buffer.alloc(offset - elf.length), code]);
  patched.writeBigUInt64LE(BigInt(entry), ENTRY_PLACE);
  patched.writeUInt32LE(PT_LOAD, note);
  patched.writeUInt32LE(PF_R | PF_X, note + 4);
  [offset, address, address, code.length, code.length, PAGE].forEach((value, i) => {
    patched.writeBigUInt64LE(BigInt(value), note + 8 + i * 8);
  });
  writeFileSync(path, patched);
}

/** Gives an executable with ENGINE_OPTIONS the entry that Bun made: it takes BUN_ variables from whoever calls it. Only for trying them out. */
export function takeEngineOptions(path) {
  const elf = readFileSync(path);
  const at = elf.lastIndexOf(Buffer.from(SYSCALL_CODE, "hex"));
  if (at < 0 || elf.readBigUInt64LE(ENTRY_PLACE) <= BigInt(CODE_ADDRESS)) throw new Error(`${path} has no entry of ours`);
  elf.copy(elf, ENTRY_PLACE, at + SYSCALL_CODE.length / 2, at + SYSCALL_CODE.length / 2 + 8);
  writeFileSync(path, elf);
}

/** The program header of the last note segment, and where the loaded program ends. */
function findNote(elf, path) {
  const first = Number(elf.readBigUInt64LE(32));
  const count = elf.readUInt16LE(56);
  const headers = Array.from({ length: count }, (_, i) => first + i * ENTRY_SIZE.program);
  const note = headers.findLast((at) => elf.readUInt32LE(at) === PT_NOTE);
  if (note === undefined) throw new Error(`${path} has no note segment whose header could be used`);
  const loads = headers.filter((at) => elf.readUInt32LE(at) === PT_LOAD);
  if (loads.some((at) => at > note)) throw new Error(`${path} has segments behind its note: they would not be in order`);
  return { header: note, end: Math.max(...loads.map((at) => Number(elf.readBigUInt64LE(at + 16) + elf.readBigUInt64LE(at + 40)))) };
}

/** The address of the program's own copy of the C library's `environ`. */
function findEnviron(elf, path) {
  const sections = readSections(elf);
  const symbols = sections.find((one) => one.type === SHT_DYNSYM);
  const names = symbols === undefined ? undefined : sections[symbols.link];
  for (const table of sections.filter((one) => one.type === SHT_RELA)) {
    for (let at = table.offset; at < table.offset + table.size; at += ENTRY_SIZE.relocation) {
      const info = elf.readBigUInt64LE(at + 8);
      if ((info & 0xffffffffn) !== R_X86_64_COPY || symbols === undefined || names === undefined) continue;
      const name = names.offset + elf.readUInt32LE(symbols.offset + Number(info >> 32n) * ENTRY_SIZE.symbol);
      if (elf.toString("latin1", name, elf.indexOf(0, name)) === "environ") return Number(elf.readBigUInt64LE(at));
    }
  }
  throw new Error(`${path} has no copy of environ`);
}

function readSections(elf) {
  const first = Number(elf.readBigUInt64LE(40));
  return Array.from({ length: elf.readUInt16LE(60) }, (_, i) => {
    const at = first + i * ENTRY_SIZE.section;
    return {
      type: elf.readUInt32LE(at + 4),
      offset: Number(elf.readBigUInt64LE(at + 24)),
      size: Number(elf.readBigUInt64LE(at + 32)),
      link: elf.readUInt32LE(at + 40),
    };
  });
}

/**
 * At the entry the stack holds argc, argv, 0, envp, 0, auxv. argc and argv move down by two places, which become the first
 * two of envp. Whatever else in envp begins with BUN_ becomes the first of ours as well: Bun would run code that BUN_OPTIONS names, and be a
 * general command with BUN_BE_BUN, in a program that may have more rights than who calls it. rdx and everything else stay as they were.
 */
function entryCode({ address, environ, next }) {
  const strings = ENGINE_OPTIONS.map((text) => Buffer.from(`${text}\0`));
  const opcodes = (hex) => Buffer.from(hex.replaceAll(" ", ""), "hex");
  const word = (value) => {
    const bytes = Buffer.alloc(4);
    bytes.writeInt32LE(value);
    return bytes;
  };
  const build = (firstString) =>
    Buffer.concat([
      opcodes("48 89 e6"), //          mov rsi, rsp
      opcodes("48 83 ec 10"), //       sub rsp, 16
      opcodes("48 89 e7"), //          mov rdi, rsp
      opcodes("48 8b 0e"), //          mov rcx, [rsi]
      opcodes("48 83 c1 02"), //       add rcx, 2
      opcodes("fc f3 48 a5"), //       cld; rep movsq
      opcodes("48 89 3c 25"), //       mov [environ], rdi
      word(environ),
      opcodes("48 c7 07"), //          mov qword [rdi], first string
      word(firstString),
      opcodes("48 c7 47 08"), //       mov qword [rdi + 8], second string
      word(firstString + strings[0].length),
      opcodes("48 8d 77 10"), //       lea rsi, [rdi + 16]
      opcodes("48 8b 06"), //    next: mov rax, [rsi]
      opcodes("48 85 c0 74 15"), //    test rax, rax; jz done
      opcodes("81 38 42 55 4e 5f"), // cmp dword [rax], "BUN_"
      opcodes("75 07"), //             jne over
      opcodes("48 c7 06"), //          mov qword [rsi], first string
      word(firstString),
      opcodes("48 83 c6 08 eb e3"), // over: add rsi, 8; jmp next; done:
      opcodes("31 f6 31 ff 31 c9"), // xor esi, esi; xor edi, edi; xor ecx, ecx
      opcodes("b8"), //                mov eax, next
      word(next),
      opcodes("ff e0"), //             jmp rax
    ]);
  return Buffer.concat([build(address + build(0).length), ...strings]);
}
