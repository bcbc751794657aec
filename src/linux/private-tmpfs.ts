/**
 * File systems that are mounted nowhere, and only for us. A tmpfs: only who has a descriptor sees it, and it goes with the last file of it that is in use.
 *
 * What is opened below its root is shown by /proc under its path there, `/usr/bin/x` for instance, also when the descriptor
 * of the root is closed. Since 5.2; needs CAP_SYS_ADMIN. Constants: uapi/linux/mount.h.
 */
import { ERRNO, checked } from "./errno.js";
import { syscallNumber } from "./ffi/native.unsafe.js";
import { SYS } from "./syscalls.js";

const FSOPEN_CLOEXEC = 1;
const FSMOUNT_CLOEXEC = 1;
const FSCONFIG_SET_STRING = 1;
const FSCONFIG_CMD_CREATE = 6;
const MOUNT_ATTR_NOSUID = 2;
const MOUNT_ATTR_NODEV = 4;

/** fsopen(2), fsconfig(2), fsmount(2) — a descriptor of the root of a new tmpfs without a limit of size. */
export function privateTmpfs(): number {
  const context = checked(syscallNumber(SYS.fsopen, Buffer.from("tmpfs\0"), FSOPEN_CLOEXEC), () => 'fsopen("tmpfs")');
  try {
    const [key, value] = [Buffer.from("size\0"), Buffer.from("0\0")];
    checked(syscallNumber(SYS.fsconfig, context, FSCONFIG_SET_STRING, key, value, 0), () => 'fsconfig("size", "0")');
    return mountOf(context, "tmpfs");
  } finally {
    syscallNumber(SYS.close, context);
  }
}

/**
 * The same for the POSIX message queues, mq_overview(7), of the IPC namespace that the calling thread is in: a descriptor of their
 * directory. Undefined where the kernel has none.
 */
export function messageQueueFiles(): number | undefined {
  const context = syscallNumber(SYS.fsopen, Buffer.from("mqueue\0"), FSOPEN_CLOEXEC);
  if (context === -ERRNO.ENODEV) return undefined;
  checked(context, () => 'fsopen("mqueue")');
  try {
    return mountOf(context, "mqueue");
  } finally {
    syscallNumber(SYS.close, context);
  }
}

function mountOf(context: number, name: string): number {
  checked(syscallNumber(SYS.fsconfig, context, FSCONFIG_CMD_CREATE, 0, 0, 0), () => "fsconfig(FSCONFIG_CMD_CREATE)");
  return checked(syscallNumber(SYS.fsmount, context, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV), () => `fsmount(${name})`);
}
