/**
 * System V message queues: msgget(2), msgsnd(2), msgrcv(2), msgctl(2), and /proc/sysvipc/msg.
 *
 * Constants: uapi/linux/ipc.h, uapi/linux/msg.h. Of the IPC namespace that the calling thread is in.
 */
import { ERRNO, checked, kernelError } from "./errno.js";
import { syscallNumber } from "./ffi/native.unsafe.js";
import { decimal } from "./proc/text.js";
import { SYS } from "./syscalls.js";
import {
  IPC_CREAT,
  IPC_EXCL,
  IPC_NOWAIT,
  IPC_RMID,
  IPC_SET,
  type Owner,
  type SysvObject,
  asCreator,
  parseObject,
  readTable,
  writeOwner,
} from "./sysv-objects.js";

const IPC_STAT = 2;
const MSG_COPY = 0o40000;
const DS_BYTES = 120; // struct msqid64_ds
const QBYTES_AT = 88;
const TYPE_BYTES = 8;
const TABLE = "/proc/sysvipc/msg";

export interface Queue extends SysvObject {
  readonly bytes: number;
  readonly messages: number;
}

export interface Message {
  readonly type: bigint;
  readonly text: Buffer;
}

/** All queues. */
export function readQueues(): Queue[] {
  return readTable("msg").map(parseQueue);
}

/** A line: key msqid perms cbytes qnum lspid lrpid uid gid cuid cgid stime rtime ctime. */
export function parseQueue([key, id, perms, bytes = "", messages = "", , , ...owners]: readonly string[]): Queue {
  const object = parseObject(TABLE, [key, id, perms, ...owners.slice(0, 4)]);
  return { ...object, bytes: decimal(bytes, TABLE), messages: decimal(messages, TABLE) };
}

/** msgctl(id, IPC_STAT) — how many bytes it may hold. */
export function queueLimit(id: number): bigint {
  const bytes = Buffer.alloc(DS_BYTES);
  checked(syscallNumber(SYS.msgctl, id, IPC_STAT, bytes), () => `msgctl(${id}, IPC_STAT)`);
  return bytes.readBigUInt64LE(QBYTES_AT);
}

/**
 * ssize_t msgrcv(id, …, MSG_COPY) — message number `index` of a queue, which it stays in; `room`: at most so many bytes. Since 3.8, with
 * CONFIG_CHECKPOINT_RESTORE. Undefined: it is longer than `room`, or than kernel.msgmax.
 */
export function peekMessage(id: number, index: number, room: Buffer): Message | undefined {
  const got = syscallNumber(SYS.msgrcv, id, room, room.length - TYPE_BYTES, index, IPC_NOWAIT | MSG_COPY);
  if (got === -ERRNO.EINVAL || got === -ERRNO.E2BIG) return undefined;
  if (got < 0) throw kernelError(`msgrcv(${id}, …, ${index}, MSG_COPY)`, got);
  return { type: room.readBigUInt64LE(0), text: Buffer.from(room.subarray(TYPE_BYTES, TYPE_BYTES + got)) };
}

/** Room for {@link peekMessage} to copy a message of at most so many bytes to. */
export function messageRoom(sizeBytes: number): Buffer {
  return Buffer.alloc(TYPE_BYTES + sizeBytes);
}

/** int msgget(key_t key, int msgflg) — a new queue, made by user and group `as`. */
export function makeQueue(key: number, options: { mode: number; as: { uid: number; gid: number } }): number {
  const flags = IPC_CREAT | IPC_EXCL | options.mode;
  return asCreator(options.as, () =>
    checked(syscallNumber(SYS.msgget, key | 0, flags), () => `msgget(0x${key.toString(16)}, 0${flags.toString(8)})`),
  );
}

/** int msgsnd(int msqid, const void *msgp, size_t msgsz, int msgflg). */
export function sendMessage(id: number, { type, text }: Message): void {
  const bytes = messageRoom(text.length);
  bytes.writeBigUInt64LE(type, 0);
  bytes.set(text, TYPE_BYTES);
  checked(syscallNumber(SYS.msgsnd, id, bytes, text.length, IPC_NOWAIT), () => `msgsnd(${id}, …, ${text.length}, IPC_NOWAIT)`);
}

/** msgctl(id, IPC_SET) — owner, permission bits, and how many bytes it may hold: more than kernel.msgmnb needs CAP_SYS_RESOURCE. */
export function setQueue(id: number, to: Owner & { readonly limitBytes: bigint }): void {
  const bytes = Buffer.alloc(DS_BYTES);
  writeOwner(bytes, to);
  bytes.writeBigUInt64LE(to.limitBytes, QBYTES_AT);
  checked(syscallNumber(SYS.msgctl, id, IPC_SET, bytes), () => `msgctl(${id}, IPC_SET)`);
}

/** msgctl(id, IPC_RMID). */
export function removeQueue(id: number): void {
  checked(syscallNumber(SYS.msgctl, id, IPC_RMID, 0), () => `msgctl(${id}, IPC_RMID)`);
}
