/**
 * Signal dispositions, sigaction(2).
 *
 * Read from   rt_sigaction(2) inside the process: handler, flags, restorer, mask of signals 1 to 64 but KILL and STOP
 * Made with   the same call
 *
 * struct kernel_sigaction on x86-64: handler, flags, restorer, mask, 8 bytes each.
 */
import { SYS } from "../../linux/syscalls.js";
import type { Program } from "../../target/program.js";
import type { ThreadPart } from "../part.js";
import type { SaEntry } from "./actions.schema.js";

const SIGKILL = 9;
const SIGSTOP = 19;
const LAST_SIGNAL = 64;
const SIGSET_BYTES = 8;
const ACTION_BYTES = 32;

/** Signals in the order in which the image lists them. */
export const SIGNALS: readonly number[] = allButUncatchable();

/** By a loop: Array.from is itself JavaScript that would have to be compiled first. */
function allButUncatchable(): number[] {
  const signals: number[] = [];
  for (let signal = 1; signal <= LAST_SIGNAL; signal++) if (signal !== SIGKILL && signal !== SIGSTOP) signals.push(signal);
  return signals;
}

export const actions: ThreadPart = {
  name: "signals/actions",
  rows: ["sig.handlers"],
  stage: "process",
  uniform: "later",

  dump({ isLeader, program, core, thread }) {
    if (!isLeader) return undefined;
    const memory = program.buffer(SIGNALS.length * ACTION_BYTES);
    SIGNALS.forEach((signal, i) => {
      program.call(SYS.rt_sigaction, signal, 0, memory.at(i * ACTION_BYTES), SIGSET_BYTES).must("reading signal actions");
    });
    // One may be another while we hold the process.
    const { actionOfTrap, trapSignal } = thread.task;
    const own = actionOfTrap && { signal: trapSignal, action: actionOfTrap };
    return () => {
      const compat = core.thread_info?.gpregs.cs === 0x23n;
      if (core.tc === undefined) return;
      core.tc.sigactions = SIGNALS.map((signal, i) => {
        const at = own?.signal === signal ? own.action : memory.bytes().subarray(i * ACTION_BYTES);
        return {
          sigaction: at.readBigUInt64LE(0),
          flags: at.readBigUInt64LE(8),
          restorer: at.readBigUInt64LE(16),
          mask: at.readBigUInt64LE(24),
          compat_sigaction: compat,
        };
      });
    };
  },

  restore({ isLeader, program, core }) {
    if (!isLeader) return undefined;
    const saved = core.tc?.sigactions ?? [];
    const memory = program.bytes(Buffer.alloc(SIGNALS.length * ACTION_BYTES));
    SIGNALS.forEach((signal, i) => {
      const action = saved[i];
      // A process is born with the default actions of the seed.
      if (action === undefined || isDefault(action)) return;
      memory.content.writeBigUInt64LE(action.sigaction, i * ACTION_BYTES);
      memory.content.writeBigUInt64LE(action.flags, i * ACTION_BYTES + 8);
      memory.content.writeBigUInt64LE(action.restorer, i * ACTION_BYTES + 16);
      memory.content.writeBigUInt64LE(action.mask, i * ACTION_BYTES + 24);
      program.call(SYS.rt_sigaction, signal, memory.at(i * ACTION_BYTES), 0, SIGSET_BYTES).must(`setting the action of signal ${signal}`);
    });
    return undefined;
  },
};

/** Adds the calls that give the seed the default actions: it has ignored what Floe ignores, and some for the C library. */
export function addDefaults(program: Program): void {
  const action = program.bytes(Buffer.alloc(ACTION_BYTES));
  for (const signal of SIGNALS)
    program.call(SYS.rt_sigaction, signal, action, 0, SIGSET_BYTES).must("setting the default action of a signal");
}

function isDefault({ sigaction, flags, restorer, mask }: SaEntry): boolean {
  return sigaction === 0n && flags === 0n && restorer === 0n && mask === 0n;
}
