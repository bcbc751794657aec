/**
 * Alternate signal stacks, sigaltstack(2).
 *
 * Read from   sigaltstack(2) inside the thread, whose rsp is its own, so that SS_ONSTACK is right
 * Made with   the same call; SS_ONSTACK is not an argument, it follows from rsp
 */
import { SYS } from "../../linux/syscalls.js";
import type { ThreadPart } from "../part.js";

const SS_ONSTACK = 1;
const STACK_T_BYTES = 24;

export const altstack: ThreadPart = {
  name: "signals/altstack",
  rows: ["sig.altstack"],
  stage: "last",
  uniform: "later",

  dump({ program, core }) {
    const stack = program.buffer(STACK_T_BYTES);
    program.call(SYS.sigaltstack, 0, stack).must("reading the alternate signal stack");
    return () => {
      if (core.thread_core === undefined) return;
      const bytes = stack.bytes();
      core.thread_core.sas = {
        ss_sp: bytes.readBigUInt64LE(0),
        ss_size: bytes.readBigUInt64LE(16),
        ss_flags: bytes.readUInt32LE(8),
      };
    };
  },

  restore({ program, core }) {
    const { sas } = core.thread_core ?? {};
    if (sas === undefined) return undefined;
    const stack = Buffer.alloc(STACK_T_BYTES);
    stack.writeBigUInt64LE(sas.ss_sp, 0);
    stack.writeUInt32LE((sas.ss_flags & ~SS_ONSTACK) >>> 0, 8);
    stack.writeBigUInt64LE(sas.ss_size, 16);
    program.call(SYS.sigaltstack, program.bytes(stack), 0).must("setting the alternate signal stack");
    return undefined;
  },
};
