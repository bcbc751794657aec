/**
 * /proc/PID/syscall, proc_pid_syscall(5): the system call a thread sits in.
 */
import { bigHex, decimal, procTextError } from "./text.js";

/** What a thread is doing. */
export type ProcSyscall =
  /** On a processor, or about to be. */
  | { readonly kind: "running" }
  /** Blocked, but not in a system call. */
  | { readonly kind: "blocked"; readonly stackPointer: bigint; readonly instructionPointer: bigint }
  | {
      readonly kind: "syscall";
      readonly nr: number;
      readonly args: readonly bigint[];
      readonly stackPointer: bigint;
      readonly instructionPointer: bigint;
    };

/** Takes the bytes of a syscall file apart. */
export function parseSyscall(bytes: Buffer, path: string): ProcSyscall {
  const text = bytes.toString("latin1");
  if (text === "running\n") return { kind: "running" };
  const [first = "", ...rest] = text.trimEnd().split(" ");
  const numbers = rest.map((field) => bigHex(field, path));
  const nr = decimal(first, path);
  if (numbers.length !== (nr === -1 ? 2 : 8) || !text.endsWith("\n")) throw procTextError(path, "it is cut off");
  const [stackPointer = 0n, instructionPointer = 0n] = numbers.splice(-2);
  return nr === -1
    ? { kind: "blocked", stackPointer, instructionPointer }
    : { kind: "syscall", nr, args: numbers, stackPointer, instructionPointer };
}
