/**
 * Events of inotify that nobody has read, and the number of the next watch: read(2) and inotify_add_watch(2) tell, but change what
 * they tell of. So they are read from the kernel's memory (`kernel-view.ts`).
 * Structures: linux/fsnotify_backend.h, fs/notify/inotify/inotify.h, linux/idr.h.
 */
import { INOTIFY_EVENT_BYTES, type InotifyEvent, inotifyEventBytes } from "./events.js";
import { KernelList, type ListShape, copiedBytes } from "./kernel-list.js";
import { KernelView, sightOf } from "./kernel-view.js";

const STRUCTS = {
  fsnotify_group: ["notification_list", "inotify_data"],
  inotify_group_private_data: ["idr"],
  idr: ["idr_next"],
  fsnotify_event: ["list"],
  inotify_event_info: ["fse", "mask", "wd", "sync_cookie", "name_len", "name"],
} as const;

/** NAME_MAX. */
const LONGEST_NAME = 255;
/** What read(2) gives of a mask: IN_ALL_EVENTS, IN_UNMOUNT, IN_Q_OVERFLOW, IN_IGNORED, IN_ISDIR. */
const TOLD = 0x4000_efff;

/** A queue as it lies in the kernel's memory: taken in the freeze, taken apart later. */
export interface QueueCopy {
  /** The first events, as many as read(2) would give as `bytes`; undefined: they cannot be told from what was copied. */
  events(bytes: number): InotifyEvent[] | undefined;
}

export class KernelEvents {
  readonly #view: KernelView;
  readonly #shape: ListShape;
  readonly #list: KernelList;

  private constructor(view: KernelView, shape: ListShape, list: KernelList) {
    this.#view = view;
    this.#shape = shape;
    this.#list = list;
  }

  /** Undefined where the kernel has no type information, or lets us read nothing. */
  static open(): KernelEvents | undefined {
    const sight = sightOf(STRUCTS);
    if (sight === undefined) return undefined;
    const view = new KernelView(sight);
    const shape = {
      placeAt: view.at("fsnotify_event", "list") + view.at("inotify_event_info", "fse"),
      lengthAt: view.at("inotify_event_info", "name_len"),
      headBytes: view.at("inotify_event_info", "name"),
    };
    const list = KernelList.open(shape);
    return list && new KernelEvents(view, shape, list);
  }

  /** Copies the queue of an inotify of ours, of which read(2) would give `bytes`; undefined: it cannot be seen. */
  copyQueue(fd: number, bytes: number): QueueCopy | undefined {
    const group = this.#view.privateOf(fd);
    if (group === undefined) return undefined;
    const end = group + BigInt(this.#view.at("fsnotify_group", "notification_list"));
    const pieces: Buffer[] = [];
    // An event is no shorter here than read(2) makes it, but for a name that is filled up.
    const most = bytes * 4;
    let [copied, at] = [0, this.#view.pointer(end)];
    while (at !== end && copied < most) {
      const some = at === undefined ? undefined : this.#list.copy(at, end);
      const piece = some !== undefined && some.bytes.length > 0 ? some : at === undefined ? undefined : this.#one(at);
      if (piece === undefined) return undefined;
      pieces.push(piece.bytes);
      copied += piece.bytes.length;
      at = piece.next;
    }
    return { events: (wanted) => this.#takeApart(Buffer.concat(pieces), wanted) };
  }

  /** One event, whose memory cannot be read as far as that of one with the longest name. */
  #one(place: bigint): { bytes: Buffer; next: bigint } | undefined {
    const { placeAt, lengthAt, headBytes } = this.#shape;
    const start = place - BigInt(placeAt);
    const length = this.#view.read(start, headBytes)?.readUInt32LE(lengthAt) ?? LONGEST_NAME + 1;
    const bytes = length > LONGEST_NAME ? undefined : this.#view.read(start, headBytes + length);
    if (bytes === undefined) return undefined;
    return { bytes: Buffer.concat([bytes], copiedBytes(this.#shape, length)), next: bytes.readBigUInt64LE(placeAt) };
  }

  #takeApart(copy: Buffer, bytes: number): InotifyEvent[] | undefined {
    const { lengthAt, headBytes } = this.#shape;
    const [wdAt, maskAt, cookieAt] = ["wd", "mask", "sync_cookie"].map((name) => this.#view.at("inotify_event_info", name));
    const events: InotifyEvent[] = [];
    let [left, at] = [bytes, 0];
    while (left > 0 && at + headBytes <= copy.length) {
      const length = copy.readUInt32LE(at + lengthAt);
      const end = at + copiedBytes(this.#shape, length);
      if (length > LONGEST_NAME || end > copy.length) return undefined;
      const event = {
        wd: copy.readInt32LE(at + (wdAt ?? 0)),
        mask: (copy.readUInt32LE(at + (maskAt ?? 0)) & TOLD) >>> 0,
        cookie: copy.readUInt32LE(at + (cookieAt ?? 0)),
        name: copy.subarray(at + headBytes, at + headBytes + length),
      };
      events.push(event);
      left -= inotifyEventBytes(event);
      at = end;
    }
    return left === 0 ? events : undefined;
  }

  /** The number that the next watch gets, unless it is in use. */
  nextWatch(fd: number): number | undefined {
    const group = this.#view.privateOf(fd);
    if (group === undefined) return undefined;
    const offset =
      this.#view.at("fsnotify_group", "inotify_data") +
      this.#view.at("inotify_group_private_data", "idr") +
      this.#view.at("idr", "idr_next");
    return this.#view.read(group + BigInt(offset), 4)?.readInt32LE(0);
  }
}

/** The events as read(2) gives them: struct inotify_event, and the name filled up with zeros. */
export function inotifyBytes(events: readonly InotifyEvent[]): Buffer {
  const bytes = Buffer.alloc(events.reduce((sum, event) => sum + inotifyEventBytes(event), 0));
  let at = 0;
  for (const event of events) {
    const length = inotifyEventBytes(event);
    bytes.writeInt32LE(event.wd, at);
    bytes.writeUInt32LE(event.mask, at + 4);
    bytes.writeUInt32LE(event.cookie, at + 8);
    bytes.writeUInt32LE(length - INOTIFY_EVENT_BYTES, at + 12);
    event.name.copy(bytes, at + INOTIFY_EVENT_BYTES);
    at += length;
  }
  return bytes;
}
