/**
 * CLOCK_MONOTONIC and CLOCK_BOOTTIME: they never jump back, also on another machine or after a reboot.
 *
 * Read from   clock_gettime(2), /proc/PID/timens_offsets, /proc/sys/kernel/random/boot_id
 * Made with   unshare(CLONE_NEWTIME) in the seed, /proc/PID/timens_offsets, time_namespaces(7)
 *
 * While the machine has not been booted since the dump its clocks just went on, as for a process that was stopped, and no
 * namespace is needed. Elsewhere they go on from the moment of the dump.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { ImageError } from "../../errors.js";
import { clockGettime } from "../../linux/timers.js";
import { kernelError } from "../../linux/errno.js";
import type { ClockOffset, TimeOffsets } from "../../linux/proc/time-offsets.js";
import { readTimeOffsets } from "../../linux/proc/read.js";
import { SYS } from "../../linux/syscalls.js";
import { Program } from "../../target/program.js";
import { run } from "../../target/run.js";
import type { TracedTask } from "../../target/thread.js";
import type { DumpSession, DumpTask, ImageSource } from "../part.js";
import { type TimensEntry, timensEntry } from "./time.schema.js";

const CLOCK_MONOTONIC = 1;
const CLOCK_BOOTTIME = 7;
const CLONE_NEWTIME = 0x80;
const SECOND = 1_000_000_000n;

/** Nanoseconds of both clocks, or of what is added to them. */
interface Clocks {
  readonly monotonic: bigint;
  readonly boottime: bigint;
}

const NONE: Clocks = { monotonic: 0n, boottime: 0n };

/** Writes what the clocks of the tree say. All its tasks are in the time namespace of the first. */
export function dumpClocks(task: DumpTask, session: DumpSession): void {
  const offsets = offsetsOf(task.traced.pid);
  const host = hostClocks();
  const value: TimensEntry = {
    monotonic: timespec(host.monotonic + offsets.monotonic),
    boottime: timespec(host.boottime + offsets.boottime),
    boot_id: bootId(),
    monotonic_offset: offsets.monotonic,
    boottime_offset: offsets.boottime,
  };
  session.later(() => session.images.append("TIMENS", [0], { type: timensEntry, value }));
}

/** What has to be added to this machine's clocks for a tree of these images; undefined: it needs no namespace of its own. */
export function wantedOffsets(images: ImageSource): Clocks | undefined {
  if (!images.exists("TIMENS", [0])) return undefined;
  const saved = images.single("TIMENS", [0], timensEntry);
  checkTimes(saved);
  const offsets = chooseOffsets(saved, { host: hostClocks(), bootId: bootId() });
  const own = offsetsOf("self");
  return offsets.monotonic === own.monotonic && offsets.boottime === own.boottime ? undefined : offsets;
}

/** Half of what the kernel can count to: no clock may be set further. */
const MOST_SECONDS = 4_611_686_018n;

function checkTimes(saved: TimensEntry): void {
  for (const field of ["monotonic", "boottime"] as const) {
    const { tv_sec, tv_nsec } = saved[field];
    const offset = saved[`${field}_offset`] ?? 0n;
    const isIn = tv_sec < MOST_SECONDS && tv_nsec < SECOND && offset < MOST_SECONDS * SECOND && offset <= tv_sec * SECOND + tv_nsec;
    if (isIn && offset > -MOST_SECONDS * SECOND) continue;
    throw new ImageError({
      code: "IMAGE_BAD_VALUE",
      place: { file: "timens-0.img", message: "timens_entry", field },
      because: "no clock says that",
      remedy: ["Use an intact copy of the images directory", "Dump the process again"],
    });
  }
}

/** The rule alone, for tests. */
export function chooseOffsets(saved: TimensEntry, now: { readonly host: Clocks; readonly bootId: string }): Clocks {
  const isSameBoot = saved.boot_id === now.bootId;
  if (isSameBoot) return { monotonic: saved.monotonic_offset ?? 0n, boottime: saved.boottime_offset ?? 0n };
  const behind: Clocks = {
    monotonic: nanoseconds(saved.monotonic) - now.host.monotonic,
    boottime: nanoseconds(saved.boottime) - now.host.boottime,
  };
  // Images of others do not say where they come from: as long as nothing would jump back, it may be this very boot.
  const mayGoOn = saved.boot_id === undefined && behind.monotonic <= 0n && behind.boottime <= 0n;
  return mayGoOn ? NONE : behind;
}

/** Gives everything that the seed will create clocks with these offsets. */
export function giveClocks(seed: TracedTask, offsets: Clocks): void {
  const program = new Program();
  program.call(SYS.unshare, CLONE_NEWTIME).must("making a time namespace, so that clocks do not jump");
  run(seed.leader, program);
  const line = (name: string, value: bigint) => `${name} ${floorSeconds(value)} ${value - floorSeconds(value) * SECOND}\n`;
  const path = `/proc/${seed.pid}/timens_offsets`;
  try {
    writeFileSync(path, line("monotonic", offsets.monotonic) + line("boottime", offsets.boottime));
  } catch (error) {
    throw kernelError(`write("${path}")`, (error as NodeJS.ErrnoException).errno ?? -22, "setting the clocks of the tree");
  }
}

/** Of Floe itself, which stays in the time namespace that it is in. */
let ownOffsets: Clocks | undefined;

function hostClocks(): Clocks {
  ownOffsets ??= offsetsOf("self");
  const own = ownOffsets;
  return {
    monotonic: clock(CLOCK_MONOTONIC) - own.monotonic,
    boottime: clock(CLOCK_BOOTTIME) - own.boottime,
  };
}

function clock(id: number): bigint {
  const { seconds, nanoseconds: rest } = clockGettime(id);
  return seconds * SECOND + rest;
}

function offsetsOf(pid: number | "self"): Clocks {
  const found: TimeOffsets | undefined = readTimeOffsets(pid === "self" ? process.pid : pid);
  const value = (offset: ClockOffset) => offset.seconds * SECOND + BigInt(offset.nanoseconds);
  return found === undefined ? NONE : { monotonic: value(found.monotonic), boottime: value(found.boottime) };
}

let ofThisBoot: string | undefined;

export function bootId(): string {
  ofThisBoot ??= readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim();
  return ofThisBoot;
}

function floorSeconds(value: bigint): bigint {
  return value >= 0n ? value / SECOND : -((-value + SECOND - 1n) / SECOND);
}

function timespec(value: bigint): TimensEntry["monotonic"] {
  return { tv_sec: value / SECOND, tv_nsec: value % SECOND };
}

function nanoseconds({ tv_sec, tv_nsec }: TimensEntry["monotonic"]): bigint {
  return tv_sec * SECOND + tv_nsec;
}
