/**
 * The head of the robust-futex list and the address cleared at thread exit; rseq(2) registration.
 *
 * Read from   get_robust_list(2) and prctl(PR_GET_TID_ADDRESS) inside the thread, PTRACE_GET_RSEQ_CONFIGURATION
 * Made with   set_robust_list(2), set_tid_address(2), rseq(2)
 */
import { ptraceGetRseqConfiguration } from "../../linux/ptrace.js";
import { SYS } from "../../linux/syscalls.js";
import type { ThreadPart } from "../part.js";
import { isCompat } from "./compat.js";

const PR_GET_TID_ADDRESS = 40;
const ROBUST_HEAD_BYTES = 24;

export const robustList: ThreadPart = {
  name: "tasks/robust-list",
  rows: ["thr.futex"],
  stage: "last",
  uniform: "later",
  dump({ program, core }) {
    const head = program.buffer(16);
    program.call(SYS.get_robust_list, 0, head, head.at(8)).must("reading the robust-futex list");
    return () => {
      if (core.thread_core === undefined) return;
      core.thread_core.futex_rla = head.bytes().readBigUInt64LE(0);
      core.thread_core.futex_rla_len = Number(head.bytes().readBigUInt64LE(8));
    };
  },
  restore({ program, core }) {
    const { futex_rla, futex_rla_len } = core.thread_core ?? {};
    // The list of a 32-bit program is another one (compat.ts).
    if (futex_rla === undefined || futex_rla === 0n || isCompat(core)) return undefined;
    program.call(SYS.set_robust_list, futex_rla, futex_rla_len ?? ROBUST_HEAD_BYTES).must("setting the robust-futex list");
    return undefined;
  },
};

export const clearTid: ThreadPart = {
  name: "tasks/clear-tid",
  rows: ["thr.basic"],
  stage: "last",
  uniform: "later",
  dump({ program, core }) {
    const address = program.buffer(8);
    program.call(SYS.prctl, PR_GET_TID_ADDRESS, address, 0, 0, 0).must("reading the address cleared at exit");
    return () => {
      if (core.thread_info !== undefined) core.thread_info.clear_tid_addr = address.bytes().readBigUInt64LE(0);
    };
  },
  restore({ program, core }) {
    const address = core.thread_info?.clear_tid_addr ?? 0n;
    program.call(SYS.set_tid_address, address).must();
    return undefined;
  },
};

export const rseq: ThreadPart = {
  name: "tasks/rseq",
  rows: ["cpu.rseq"],
  stage: "last",
  dump({ thread, core }) {
    const found = ptraceGetRseqConfiguration(thread.tid);
    if (found === undefined || found.address === 0n || core.thread_core === undefined) return undefined;
    core.thread_core.rseq_entry = {
      rseq_abi_pointer: found.address,
      rseq_abi_size: found.sizeBytes,
      signature: found.signature,
    };
    return undefined;
  },
  restore({ program, core }) {
    const entry = core.thread_core?.rseq_entry;
    // CRIU writes an address of 0 for a thread that had not registered one yet, as a thread that is just beginning.
    if (entry === undefined || BigInt(entry.rseq_abi_pointer) === 0n) return;
    program.call(SYS.rseq, entry.rseq_abi_pointer, entry.rseq_abi_size, 0, entry.signature).must("registering the rseq area");
    return undefined;
  },
};
