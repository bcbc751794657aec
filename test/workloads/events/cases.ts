import { KernelNotices } from "../../../src/linux/kernel-notices.js";
import { release } from "node:os";
import type { Case, Mode } from "../../harness/run-case.js";

/** Of cases that are like another one for a dump that leaves the process running. */
const fewModes: readonly Mode[] = ["alone", "killed-restored"];

const eventfd = (which: string, claim: string, more: Partial<Case> = {}): Case => ({
  workload: "events/eventfd",
  args: [which],
  rows: ["file.eventfd"],
  claim,
  ...more,
});
const epoll = (which: string, claim: string, more: Partial<Case> = {}): Case => ({
  workload: "events/epoll",
  args: [which],
  rows: ["file.epoll"],
  claim,
  ...more,
});
const timerfd = (clock: string, more: Partial<Case> = {}): Case => ({
  workload: "events/timerfd",
  args: [clock],
  rows: ["time.timerfd"],
  claim: `timers of clock ${clock} keep time left, interval and unread expirations`,
  ...more,
});

export const eventCases: readonly Case[] = [
  eventfd("plain", "counters and flags are kept, and a reader that waits"),
  eventfd("semaphore", "counters that are read one by one stay so", { modes: fewModes, peerCannot: "it does not carry EFD_SEMAPHORE" }),
  eventfd("wide", "counters of more than 32 bits are kept", { modes: fewModes, peerCannot: "it restores the low 32 bits" }),
  epoll("pipes", "descriptors are watched as before"),
  epoll("moved", "targets that were moved or closed are watched under the number they were added", {
    peerCannot: "it adds them under the number they have now",
  }),
  epoll("nested", "sets watch sets", { modes: fewModes }),
  epoll("oneshot", "what was reported with EPOLLONESHOT is not reported again", {
    modes: fewModes,
    peerCannot: "it waits for errors of such a target again",
  }),
  epoll("shared", "a set is shared with a child that lacks a target"),
  epoll("others", "a target that only another process has open is watched", {
    modes: fewModes,
    peerCannot: "it looks for targets in the process that has the set",
  }),
  epoll("polling", "how a set polls devices of the network is kept", {
    modes: fewModes,
    machineCannot: Number.parseFloat(release()) >= 7 || /^6\.(9|\d\d)/.test(release()) ? undefined : "Linux has no EPIOCSPARAMS before 6.9",
    peerCannot: "it does not carry EPIOCSPARAMS",
  }),
  epoll("many", "a set of 1000 targets is kept", { modes: fewModes }),
  { workload: "events/signalfd", rows: ["file.signalfd"], claim: "descriptors for signals read what waits for them" },
  { workload: "events/pidfd", rows: ["file.pidfd"], claim: "descriptors of living, dead and gone processes are kept" },
  {
    workload: "events/thread-pidfd",
    rows: ["file.pidfd"],
    claim: "descriptors of later threads are kept, and watched as before",
    modes: ["alone", "in-place", "killed-restored"],
    peerCannot: "it refuses descriptors of threads",
  },
  {
    workload: "events/inotify",
    args: ["named"],
    rows: ["file.inotify"],
    claim: "watches keep their numbers, and nothing is reported that did not happen",
  },
  {
    workload: "events/inotify",
    args: ["deleted"],
    rows: ["file.inotify"],
    claim: "a deleted file is watched",
    peerCannot: "it takes no watch of a deleted file",
  },
  {
    workload: "events/inotify",
    args: ["held"],
    rows: ["file.inotify"],
    claim: "files that a restore opens are watched, and nothing of it is reported",
    // A dump reads what is open, and a program that runs on is told.
    modes: ["alone", "killed-restored", "twice"],
    peerCannot: "it takes no watch of a deleted file",
  },
  {
    workload: "events/inotify",
    args: ["unread"],
    rows: ["file.inotify"],
    claim: "unread events are read afterwards, before those that come then",
    peerCannot: "it drops unread events without a word",
  },
  ...["kinds", "full", "refilled"].map(
    (how): Case => ({
      workload: "events/inotify-unread",
      args: [how],
      rows: ["file.inotify"],
      claim:
        {
          kinds: "unread events of every kind are the same",
          full: "so are those of a queue that is full",
          refilled: "so are those around an overflow",
        }[how] ?? "",
      peerCannot: "it drops unread events without a word",
      ...(how === "kinds" ? {} : { modes: fewModes }),
    }),
  ),
  { workload: "events/fanotify", rows: ["file.fanotify"], claim: "marks are kept with what they ignore" },
  {
    workload: "events/fanotify",
    args: ["decide"],
    rows: ["file.fanotify"],
    claim: "who decides about files goes on deciding",
    modes: fewModes,
  },
  {
    workload: "events/fanotify",
    args: ["permission"],
    rows: ["file.fanotify"],
    claim: "so does who has such a file open and mapped",
    peerCannot: "it opens the file, and waits for an answer",
  },
  {
    workload: "events/fanotify",
    args: ["unread"],
    rows: ["file.fanotify"],
    claim: "unread events become an overflow",
    modes: ["alone", "in-place", "killed-restored"],
    peerCannot: "it drops unread events without a word",
  },
  {
    workload: "events/notices",
    rows: ["file.regular"],
    claim: "a process goes on being told of directories by signals (F_NOTIFY)",
    modes: ["in-place", "twice"],
    peerCannot: "it does not know of them",
    machineCannot: KernelNotices.open() === undefined ? "no BTF, or no right to load BPF programs" : undefined,
  },
  {
    workload: "events/owners",
    rows: ["file.fd-table"],
    claim: "signals about I/O go to their owner, with number and sender",
    peerCannot: "it sets owners before threads exist",
  },
  {
    workload: "events/procfs",
    args: ["living"],
    rows: ["file.regular"],
    modes: fewModes,
    claim: "files of /proc and of namespaces are open as before",
  },
  { workload: "events/procfs", args: ["gone"], rows: ["file.regular"], claim: "files of /proc of a process that is gone" },
  {
    workload: "events/procfs",
    args: ["thread"],
    rows: ["file.procfs"],
    claim: "files of /proc of a thread that is gone",
    modes: fewModes,
    peerCannot: "it knows processes only",
  },
  {
    workload: "events/procfs",
    args: ["links"],
    rows: ["file.procfs"],
    claim: "links of /proc themselves, also such as lead to descriptors that are closed",
    modes: fewModes,
    peerCannot: "it opens the links before what they lead to is there",
  },
  timerfd("monotonic"),
  ...["realtime", "boottime"].map((clock) => timerfd(clock, { modes: fewModes })),
  ...["realtime-alarm", "boottime-alarm"].map((clock) => timerfd(clock, { modes: fewModes, peerCannot: "it knows no alarm clocks" })),
  {
    workload: "events/bpf",
    args: ["plain"],
    rows: ["file.bpf-map"],
    claim: "BPF hashes and arrays keep their elements",
    modes: fewModes,
    peerCannot: "this build of it has no support for BPF",
  },
  {
    workload: "events/bpf",
    rows: ["file.bpf-map"],
    claim: "BPF maps keep their elements, and who is frozen or shares one",
    peerCannot: "it knows hashes and arrays only",
  },
];

const userfaultfd = (how: string, claim: string): Case => ({
  workload: "events/userfaultfd",
  args: how === "" ? [] : [how],
  rows: ["userfaultfd"],
  claim,
  modes: ["alone", "left-running", "twice"],
});

/** Beyond the peer, which refuses them. */
export const userfaultfdCases: readonly Case[] = [
  userfaultfd("", "missing, protected and unmapped pages raise faults as before, and no others"),
  userfaultfd("monitor", "the handler of the faults is a child"),
  userfaultfd("two", "two of them keep their own ranges"),
  userfaultfd("bare", "one that nobody has agreed on an API for"),
  userfaultfd("waiting", "a thread that waits in a fault waits again"),
];

const ioUring = (how: string, claim: string): Case => ({
  workload: "events/io-uring",
  args: how === "" ? [] : [how],
  rows: ["io_uring"],
  claim,
  modes: how === "" ? ["alone", "left-running", "twice"] : ["twice"],
});

/** Beyond the peer, which refuses them. */
export const ioUringCases: readonly Case[] = [
  ioUring("", "rings keep counters, completions, requests to come, registered files and buffers, and who shares them"),
  ioUring("plain", "completions that nobody has read"),
  ioUring("large", "long entries, and no array of requests"),
  ioUring("number", "a thread goes by the number that it registered"),
  ioUring("worker", "a worker of the kernel that is idle is in nobody's way"),
  ioUring("ending", "a dump waits for requests that end in a moment"),
];
