/**
 * Events of inotify that nobody has read, and the number of the next watch: read(2) and inotify_add_watch(2) tell, but change what
 * they tell of. So they are read from the kernel's memory (`kernel-view.ts`).
 * Structures: linux/fsnotify_backend.h, fs/notify/inotify/inotify.h, linux/idr.h.
 */
import { INOTIFY_EVENT_BYTES, type InotifyEvent, inotifyEventBytes } from "./events.js";
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
/** Bytes of a name that are read with its event. */
const MOST_NAMES = 32;
/** What read(2) gives of a mask: IN_ALL_EVENTS, IN_UNMOUNT, IN_Q_OVERFLOW, IN_IGNORED, IN_ISDIR. */
const TOLD = 0x4000_efff;

export class KernelEvents {
  readonly #view: KernelView;

  private constructor(view: KernelView) {
    this.#view = view;
  }

  /** Undefined where the kernel has no type information, or lets us read nothing. */
  static open(): KernelEvents | undefined {
    const sight = sightOf(STRUCTS);
    return sight && new KernelEvents(new KernelView(sight));
  }

  /** The first events in the queue of an inotify of ours, as many as read(2) would give as `bytes`; undefined: they cannot be seen. */
  queue(fd: number, bytes: number): InotifyEvent[] | undefined {
    const group = this.#view.privateOf(fd);
    if (group === undefined) return undefined;
    const events: InotifyEvent[] = [];
    const list = group + BigInt(this.#view.at("fsnotify_group", "notification_list"));
    let [left, at] = [bytes, this.#view.pointer(list)];
    while (left > 0) {
      if (at === undefined || at === list) return undefined;
      const found = this.#event(at);
      if (found === undefined) return undefined;
      events.push(found.event);
      left -= inotifyEventBytes(found.event);
      at = found.next;
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

  /** The event whose place in the list is at an address, and the place of the next one. */
  #event(place: bigint): { event: InotifyEvent; next: bigint } | undefined {
    const placeAt = this.#view.at("fsnotify_event", "list") + this.#view.at("inotify_event_info", "fse");
    const start = place - BigInt(placeAt);
    const nameAt = this.#view.at("inotify_event_info", "name");
    // Most names come along; behind the last event of a page there may be nothing.
    const head = this.#view.read(start, nameAt + MOST_NAMES) ?? this.#view.read(start, nameAt);
    const length = head?.readInt32LE(this.#view.at("inotify_event_info", "name_len"));
    if (head === undefined || length === undefined || length < 0 || length > LONGEST_NAME) return undefined;
    const isWhole = head.length >= nameAt + length;
    const name = isWhole ? head.subarray(nameAt, nameAt + length) : this.#view.read(start + BigInt(nameAt), length);
    if (name === undefined) return undefined;
    const event = {
      wd: head.readInt32LE(this.#view.at("inotify_event_info", "wd")),
      mask: (head.readUInt32LE(this.#view.at("inotify_event_info", "mask")) & TOLD) >>> 0,
      cookie: head.readUInt32LE(this.#view.at("inotify_event_info", "sync_cookie")),
      name,
    };
    return { event, next: head.readBigUInt64LE(placeAt) };
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
