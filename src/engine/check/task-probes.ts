/**
 * Probes of processes: ptrace, seccomp, pids, namespaces that belong to no other part.
 */
import { existsSync } from "node:fs";
import { checked } from "../../linux/errno.js";
import { syscallNumber } from "../../linux/ffi/native.unsafe.js";
import { CLONE_NEWCGROUP, CLONE_NEWTIME, CLONE_NEWUSER } from "../../linux/namespaces.js";
import { PR_SET_NO_NEW_PRIVS, getTidAddress, hasTimerCreateRestoreIds, mmMapSize } from "../../linux/prctl.js";
import { readPids } from "../../linux/proc/list.js";
import { KCMP_VM, kcmp, kcmpEpollTarget, pidfdGetfd, pidfdOpen } from "../../linux/process.js";
import {
  PTRACE_O_EXITKILL,
  PTRACE_O_SUSPEND_SECCOMP,
  PTRACE_O_TRACESYSGOOD,
  ptraceCont,
  ptraceGetRegs,
  ptraceGetRseqConfiguration,
  ptracePeekSiginfo,
  ptraceSeccompGetFilter,
  ptraceSetOptions,
  ptraceSetRegs,
  waitThread,
} from "../../linux/ptrace.js";
import { SECCOMP_SET_MODE_FILTER, SOCK_FPROG_BYTES } from "../../linux/seccomp.js";
import { SIGUSR1, encodeSigInfo } from "../../linux/signals.js";
import { SYS } from "../../linux/syscalls.js";
import { arch } from "../../target/arch.js";
import { createTasks } from "../../target/create.js";
import { killTask } from "../../target/seed.js";
import { type Probe, calls, expect, fileText, tryUnshare, withFds, withSandbox } from "./probe.js";

const CLOEXEC = 0o2000000;

/** A whole line of /proc/self/stat: 52 fields since the last ones were added. */
function statFields(): void {
  const text = fileText("/proc/self/stat");
  const fields =
    text
      .slice(text.lastIndexOf(")") + 2)
      .trim()
      .split(" ").length + 2;
  expect(fields >= 52, `/proc/self/stat has ${fields} fields of 52`);
}

function lastPid(): void {
  withFds(
    () => [
      checked(
        syscallNumber(SYS.open, Buffer.from("/proc/sys/kernel/ns_last_pid\0"), 2 | CLOEXEC, 0),
        () => 'open("/proc/sys/kernel/ns_last_pid", O_RDWR)',
      ),
    ],
    () => {},
  );
}

/** A signal with a siginfo of our choice, sent to oneself, is seen on the queue and stays there. */
function queuedSignal(): void {
  withSandbox((thread) => {
    const { pid } = thread.task;
    const sent = { signal: SIGUSR1, errno: 0, code: 0, pid: 1, uid: 0, value: 7n };
    calls(thread, (p) => p.call(SYS.rt_sigqueueinfo, pid, SIGUSR1, p.bytes(encodeSigInfo(sent))).must());
    for (let time = 0; time < 2; time++) {
      const [found] = ptracePeekSiginfo(thread.tid, true);
      expect(found?.readInt32LE(0) === SIGUSR1 && found.readInt32LE(16) === 1, "PTRACE_PEEKSIGINFO does not show the signal");
    }
  });
}

function prctls(): void {
  getTidAddress();
  expect(mmMapSize() !== undefined, "there is no PR_SET_MM_MAP (CONFIG_CHECKPOINT_RESTORE)");
}

const SECCOMP_RET_ALLOW = 0x7fff_0000;
const BPF_RET = 6;
const INSTRUCTION_BYTES = 8;

function readSeccompFilter(): void {
  withSandbox((thread) => {
    calls(thread, (p) => {
      const filter = Buffer.alloc(INSTRUCTION_BYTES);
      filter.writeUInt16LE(BPF_RET, 0);
      filter.writeUInt32LE(SECCOMP_RET_ALLOW, 4);
      const program = p.bytes(Buffer.alloc(SOCK_FPROG_BYTES));
      program.content.writeUInt16LE(1, 0);
      p.storeAddress(program.at(8), p.bytes(filter));
      p.call(SYS.prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).must();
      p.call(SYS.seccomp, SECCOMP_SET_MODE_FILTER, 0, program).must();
    });
    expect(ptraceSeccompGetFilter(thread.tid, 0)?.length === INSTRUCTION_BYTES, "PTRACE_SECCOMP_GET_FILTER shows no filter");
  });
}

function suspendSeccomp(): void {
  withSandbox((thread) => ptraceSetOptions(thread.tid, PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD | PTRACE_O_SUSPEND_SECCOMP));
}

/** Writes the login id that a process has anyway. */
function setLoginuid(): void {
  const text = fileText("/proc/self/loginuid");
  withSandbox((thread) => {
    calls(thread, (p) => {
      const fd = p.call(SYS.open, p.cstring("/proc/self/loginuid"), 2, 0).must();
      const bytes = Buffer.from(text, "latin1");
      p.call(SYS.write, fd, p.bytes(bytes), bytes.length).must();
    });
  });
}

/** A pid that is not in use: the last one below 32768 (pid_max is never less than 301). */
function freePid(): number {
  const used = new Set(readPids());
  for (let pid = 300; pid > 1; pid--) if (!used.has(pid)) return pid;
  throw new Error("internal error: no pid below 300 is free");
}

function chosenPid(): void {
  withSandbox((thread) => {
    const pid = freePid();
    for (const task of createTasks(thread.task, [{ pid, comm: "floe-check", asSibling: false }])) {
      killTask(task);
      expect(task.pid === pid, `the process has pid ${task.pid} instead of ${pid}`);
    }
  });
}

const PTRACE_POKEUSER = 6;
/** offsetof(struct user, u_debugreg) of sys/user.h; debug register 7 switches the breakpoints on. */
const DEBUG_REGISTERS = 848;
const DR7 = DEBUG_REGISTERS + 7 * 8;
const DR7_ENABLE_0 = 1;
const SIGTRAP = 5;

/** A hardware breakpoint stops a thread before its first instruction. */
function breakpoint(): void {
  withSandbox((thread) => {
    const { slot, tid } = thread;
    if (slot === undefined) return;
    const poke = (offset: number, value: bigint | number) =>
      checked(syscallNumber(SYS.ptrace, PTRACE_POKEUSER, tid, offset, value), () => `ptrace(PTRACE_POKEUSER, ${tid}, ${offset})`);
    const regs = Buffer.alloc(arch.regsBytes);
    ptraceGetRegs(tid, regs);
    arch.setInstructionPointer(regs, slot.code);
    ptraceSetRegs(tid, regs);
    poke(DEBUG_REGISTERS, slot.code);
    poke(DR7, DR7_ENABLE_0);
    ptraceCont(tid);
    const status = waitThread(tid);
    ptraceGetRegs(tid, regs);
    const isThere = status.kind === "signal-stop" && status.signal === SIGTRAP && arch.instructionPointer(regs) === slot.code;
    expect(isThere, `the thread did not stop at the breakpoint (${JSON.stringify(status)})`);
  });
}

function compareEpollTarget(): void {
  const epoll = () => checked(syscallNumber(SYS.epoll_create1, CLOEXEC), () => "epoll_create1()");
  const eventfd = () => checked(syscallNumber(SYS.eventfd2, 0, CLOEXEC), () => "eventfd2(0)");
  withFds(
    () => [epoll(), eventfd()],
    (epollFd = -1, tfd = -1) => {
      checked(syscallNumber(SYS.epoll_ctl, epollFd, 1, tfd, Buffer.alloc(12)), () => "epoll_ctl(EPOLL_CTL_ADD)");
      const { pid } = process;
      expect(kcmpEpollTarget({ pid, fd: tfd }, { pid, epollFd, tfd, skip: 0 }) === 0, "kcmp() does not find the target of an epoll");
    },
  );
}

export const requiredTasks: readonly Probe[] = [
  { name: "ns_last_pid", attempt: lastPid },
  { name: "kcmp", attempt: () => expect(kcmp(KCMP_VM, process.pid, process.pid) === 0, "kcmp() finds a process unlike itself") },
  { name: "prctl", attempt: prctls },
  { name: "fields of /proc/PID/stat", attempt: statFields },
  { name: "rt_sigqueueinfo and PTRACE_PEEKSIGINFO", attempt: queuedSignal },
];

export const taskFeatures: readonly Probe[] = [
  { name: "userns", attempt: () => tryUnshare(CLONE_NEWUSER) },
  { name: "seccomp_suspend", attempt: suspendSeccomp },
  { name: "seccomp_filters", attempt: readSeccompFilter },
  { name: "loginuid", attempt: setLoginuid },
  { name: "cgroupns", attempt: () => tryUnshare(CLONE_NEWCGROUP) },
  { name: "kcmp_epoll", attempt: compareEpollTarget },
  {
    name: "timens",
    attempt: () => {
      tryUnshare(CLONE_NEWTIME);
      expect(existsSync("/proc/self/timens_offsets"), "there is no /proc/self/timens_offsets");
    },
  },
  { name: "clone3_set_tid", attempt: chosenPid },
  {
    name: "pidfd_store",
    attempt: () =>
      withFds(
        () => [pidfdOpen(process.pid)],
        (pidfd = -1) =>
          withFds(
            () => [pidfdGetfd(pidfd, pidfd)],
            () => {},
          ),
      ),
  },
  { name: "ns_pid", attempt: () => expect(/^NSpid:/m.test(fileText("/proc/self/status")), "/proc/self/status has no NSpid") },
  {
    name: "apparmor_stacking",
    attempt: () =>
      expect(fileText("/sys/kernel/security/apparmor/features/domain/stack").trim() === "yes", "AppArmor does not stack profiles"),
  },
  {
    name: "get_rseq_conf",
    attempt: () =>
      withSandbox((thread) => expect(ptraceGetRseqConfiguration(thread.tid) !== undefined, "there is no PTRACE_GET_RSEQ_CONFIGURATION")),
  },
  { name: "timer_cr_ids", attempt: () => expect(hasTimerCreateRestoreIds(), "there is no PR_TIMER_CREATE_RESTORE_IDS") },
  { name: "breakpoints", attempt: breakpoint },
];
