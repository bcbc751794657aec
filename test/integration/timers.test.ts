import { KernelTimers } from "../../src/linux/kernel-timers.js";
import { isRoot } from "../harness/subject.js";
import { suite } from "../harness/suite.js";
import { overrunCases, timerCases } from "../workloads/timers/cases.js";

const isSeen = isRoot && KernelTimers.open() !== undefined;

suite("timers", [
  ...timerCases,
  // What no call tells is looked up in the kernel's memory.
  ...overrunCases.map((one) =>
    isSeen ? one : { ...one, machineCannot: "this kernel has no type information (BTF), or BPF is not allowed" },
  ),
]);
