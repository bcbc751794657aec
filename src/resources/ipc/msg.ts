/**
 * System V message queues of the tree's own IPC namespace, with their messages in order.
 *
 * Read from   /proc/sysvipc/msg; msgctl(IPC_STAT); messages by msgrcv(MSG_COPY), which leaves them where they are
 * Made with   msgget(2) with the number asked for by kernel.msg_next_id, msgsnd(2), msgctl(IPC_SET)
 *
 * Who sent and received last, and when, is not carried: no call sets it.
 */
import { decode } from "../../images/codec/decode.js";
import { encode } from "../../images/codec/encode.js";
import { imageFileName } from "../../images/kinds.js";
import { ImageError, Refusal } from "../../errors.js";
import { readLimit } from "../../linux/ipc-limits.js";
import {
  type Message,
  makeQueue,
  messageRoom,
  peekMessage,
  queueLimit,
  readQueues,
  sendMessage,
  setQueue,
} from "../../linux/sysv-queues.js";
import { setNextId } from "../../linux/sysv-objects.js";
import type { DumpSession, RestoreSession } from "../part.js";
import { type IpcMsgEntry, ipcMsg, ipcMsgEntry } from "./msg.schema.js";
import { ipcId, savedIpcIds } from "./namespace.js";

const RWX = 0o777;
const LENGTH_BYTES = 4;
const ALIGNMENT = 8;
/** What a queue may hold while it is filled. */
const PLENTY = 0x7fffffffn;

const padded = (bytes: number): number => (bytes + ALIGNMENT - 1) & ~(ALIGNMENT - 1);

/** Saves all queues. Called inside of the namespace. */
export function dumpQueues(session: DumpSession): void {
  const namespace = ipcId(session);
  let room: Buffer | undefined;
  for (const queue of readQueues()) {
    const { key, id, uid, gid, cuid, cgid, mode } = queue;
    const messages: Message[] = [];
    for (; messages.length < queue.messages; ) {
      room ??= messageRoom(Number(readLimit("kernel/msgmax")?.[0] ?? 0n));
      const message = peekMessage(id, messages.length, room);
      if (message === undefined) {
        session.refuse(tooLong(id, session));
        break;
      }
      messages.push(message);
    }
    const value = { desc: { key, uid, gid, cuid, cgid, mode: mode & RWX, id }, qbytes: Number(queueLimit(id)), qnum: messages.length };
    session.later(() => session.images.append("IPCNS_MSG", [namespace], { type: ipcMsgEntry, value, extra: packMessages(messages) }));
  }
}

function tooLong(id: number, { tasks: [root] }: DumpSession): Refusal {
  return new Refusal({
    code: "IPC_NOT_CARRIED",
    process: { pid: root?.traced.pid ?? 0, comm: root?.comm ?? "?" },
    resource: `message queue ${id}`,
    because: "a message in it is longer than kernel.msgmax, and the kernel does not show such messages",
    remedy: [`Raise kernel.msgmax in its IPC namespace: nsenter --target ${root?.traced.pid ?? 0} --ipc sysctl kernel.msgmax=…`],
  });
}

/** For each message the length of its description, that, and its text, filled up to eight bytes. */
export function packMessages(messages: readonly Message[]): Buffer {
  return Buffer.concat(
    messages.flatMap(({ type, text }) => {
      const description = encode(ipcMsg, { mtype: type, msize: text.length });
      const length = Buffer.alloc(LENGTH_BYTES);
      length.writeUInt32LE(description.length, 0);
      return [length, description, text, Buffer.alloc(padded(text.length) - text.length)];
    }),
  );
}

/** The same back, from the bytes behind a queue; `used`: how many of them are its messages. */
export function unpackMessages(bytes: Buffer, count: number, file: string): { messages: Message[]; used: number } {
  const messages: Message[] = [];
  let at = 0;
  const take = (length: number): Buffer => {
    if (at + length > bytes.length) {
      throw new ImageError({
        code: "IMAGE_BAD_FRAMING",
        place: { file },
        because: `message ${messages.length} of a queue is cut off`,
        remedy: ["Use an intact copy of the image", "Dump the process again"],
      });
    }
    at += length;
    return bytes.subarray(at - length, at);
  };
  for (let i = 0; i < count; i++) {
    const length = take(LENGTH_BYTES).readUInt32LE(0);
    const { mtype, msize } = decode(ipcMsg, take(length), { file, offsetBytes: at - length });
    messages.push({ type: mtype, text: take(padded(msize)).subarray(0, msize) });
  }
  return { messages, used: at };
}

/** Queues in the images, with their messages. */
export function savedQueues(session: RestoreSession): { readonly value: IpcMsgEntry; readonly messages: readonly Message[] }[] {
  return savedIpcIds(session).flatMap((namespace) => {
    const file = imageFileName("IPCNS_MSG", [namespace]);
    const used = ({ qnum }: IpcMsgEntry, rest: Buffer) => unpackMessages(rest, qnum, file).used;
    const records = session.images.records("IPCNS_MSG", [namespace], ipcMsgEntry, used);
    return records.map(({ value, extra }) => ({ value, messages: unpackMessages(extra, value.qnum, file).messages }));
  });
}

/** Makes all queues. Called inside of the namespace. */
export function restoreQueues(session: RestoreSession): void {
  for (const { value, messages } of savedQueues(session)) {
    const { desc, qbytes } = value;
    setNextId("msg", desc.id);
    const id = makeQueue(desc.key, { mode: desc.mode & RWX, as: { uid: desc.cuid, gid: desc.cgid } });
    if (id !== desc.id) throw new Error(`message queue ${desc.id} cannot have its number again: it would be ${id}`);
    const owner = { uid: desc.uid, gid: desc.gid, mode: desc.mode & RWX };
    setQueue(id, { ...owner, limitBytes: PLENTY });
    for (const message of messages) sendMessage(id, message);
    setQueue(id, { ...owner, limitBytes: BigInt(qbytes) });
  }
}
