/**
 * Which events of a saved inotify queue can be caused again, and how: as steps, without a call being made.
 *
 * The kernel lets nobody put an event into a queue, but it makes one when something happens to a watched file, with the number
 * of the watch, which can be chosen. Two things cannot be had: a combination that no single act causes, and a given cookie. So
 * the halves of a rename get a new cookie, the same for both, and halves that other events came between are given up.
 *
 * What is given up becomes an overflow (IN_Q_OVERFLOW) at its place: events are missing there, look for yourself.
 */
import {
  IN_ACCESS,
  IN_ATTRIB,
  IN_CLOSE_NOWRITE,
  IN_CLOSE_WRITE,
  IN_CREATE,
  IN_DELETE,
  IN_DELETE_SELF,
  IN_IGNORED,
  IN_ISDIR,
  IN_MODIFY,
  IN_MOVED_FROM,
  IN_MOVED_TO,
  IN_MOVE_SELF,
  IN_OPEN,
  IN_Q_OVERFLOW,
  IN_UNMOUNT,
  type InotifyEvent,
} from "../../linux/events.js";

/** One act that causes events: one of its own, or the two halves of a rename; `gone` ends with an IN_IGNORED. */
export type Act =
  | { readonly kind: "event"; readonly event: InotifyEvent }
  | { readonly kind: "rename"; readonly from: InotifyEvent; readonly to: InotifyEvent }
  | { readonly kind: "gone"; readonly event: InotifyEvent };

/** How a queue is made again: `before`, an overflow if there is one, `after`. */
export interface QueuePlan {
  readonly before: readonly Act[];
  readonly overflow: boolean;
  readonly after: readonly Act[];
  /** Events that cannot be made again. */
  readonly lost: number;
}

/** What can happen to a file in a watched directory; not all of it to a directory there. */
const OF_FILES = [
  IN_ACCESS,
  IN_MODIFY,
  IN_ATTRIB,
  IN_CLOSE_WRITE,
  IN_CLOSE_NOWRITE,
  IN_OPEN,
  IN_MOVED_FROM,
  IN_MOVED_TO,
  IN_CREATE,
  IN_DELETE,
];
const NOT_OF_DIRECTORIES = [IN_MODIFY, IN_CLOSE_WRITE];
const ONLY_NAMED = [IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE];
const ENDS = [IN_DELETE_SELF, IN_UNMOUNT];

/** What kind of file a watch is on, as far as its events say. */
export type WatchedKind = "file" | "directory";

/** Kinds of the watched files, by number of watch: of a file in it, or with IN_ISDIR, only a directory tells. */
export function watchedKinds(events: readonly InotifyEvent[]): Map<number, WatchedKind> {
  const kinds = new Map<number, WatchedKind>();
  for (const { wd, mask, name } of events) {
    if (name.length > 0 || (mask & IN_ISDIR) !== 0) kinds.set(wd, "directory");
    else if (!kinds.has(wd)) kinds.set(wd, "file");
  }
  return kinds;
}

const bits = (mask: number): number => (mask & ~IN_ISDIR) >>> 0;

function canHappen(event: InotifyEvent, kinds: ReadonlyMap<number, WatchedKind>): boolean {
  const what = bits(event.mask);
  const isDirectory = (event.mask & IN_ISDIR) !== 0;
  const isNamed = event.name.length > 0;
  if (event.wd < 1 || (isNamed && event.name.includes("/"))) return false;
  if (what === IN_MOVE_SELF) return !isNamed && !isDirectory;
  if (!OF_FILES.includes(what) || (isDirectory && NOT_OF_DIRECTORIES.includes(what))) return false;
  if (!isNamed) return !ONLY_NAMED.includes(what) && isDirectory === (kinds.get(event.wd) === "directory");
  return true;
}

const isSame = (a: InotifyEvent, b: InotifyEvent): boolean => a.wd === b.wd && a.mask === b.mask && a.name.equals(b.name);

/** The acts for `events`; where one cannot be had there is an undefined. */
function actsFor(events: readonly InotifyEvent[]): (Act | "overflow" | undefined)[] {
  const kinds = watchedKinds(events);
  const ended = new Set<number>();
  const acts: (Act | "overflow" | undefined)[] = [];
  const cookies = new Map<number, number>();
  for (const { cookie } of events) cookies.set(cookie, (cookies.get(cookie) ?? 0) + 1);
  for (let i = 0; i < events.length; i++) {
    const event = events[i] as InotifyEvent;
    const next = events[i + 1];
    const what = bits(event.mask);
    if (what === IN_Q_OVERFLOW) acts.push("overflow");
    else if (ended.has(event.wd)) acts.push(undefined);
    else if (what === IN_IGNORED && event.name.length === 0) {
      ended.add(event.wd);
      acts.push({ kind: "event", event });
    } else if (ENDS.includes(what) && next !== undefined && bits(next.mask) === IN_IGNORED && next.wd === event.wd) {
      ended.add(event.wd);
      acts.push({ kind: "gone", event });
      i++;
    } else if (!canHappen(event, kinds)) acts.push(undefined);
    else if (event.cookie === 0 || cookies.get(event.cookie) === 1) acts.push({ kind: "event", event });
    else if (isPair(event, next) && cookies.get(event.cookie) === 2 && canHappen(next, kinds)) {
      acts.push({ kind: "rename", from: event, to: next });
      i++;
    } else acts.push(undefined);
  }
  return acts;
}

function isPair(from: InotifyEvent, to: InotifyEvent | undefined): to is InotifyEvent {
  return (
    to !== undefined &&
    to.cookie === from.cookie &&
    bits(from.mask) === IN_MOVED_FROM &&
    bits(to.mask) === IN_MOVED_TO &&
    (from.mask & IN_ISDIR) === (to.mask & IN_ISDIR) &&
    !(from.wd === to.wd && from.name.equals(to.name))
  );
}

/** The events that an act causes. */
export function eventsOf(act: Act): InotifyEvent[] {
  if (act.kind === "rename") return [act.from, act.to];
  if (act.kind === "event") return [act.event];
  return [act.event, { wd: act.event.wd, mask: IN_IGNORED, cookie: 0, name: Buffer.alloc(0) }];
}

export const countOf = (acts: readonly Act[]): number => acts.reduce((sum, act) => sum + eventsOf(act).length, 0);

/** Plans a queue of at most `limit` events (fs.inotify.max_queued_events), which an overflow does not count for. */
export function planQueue(events: readonly InotifyEvent[], limit: number): QueuePlan {
  const acts = actsFor(events);
  const lost = events.length - acts.reduce((sum, act) => sum + (act === undefined ? 0 : act === "overflow" ? 1 : eventsOf(act).length), 0);
  const at = acts.findIndex((act) => act === undefined || act === "overflow");
  const isAct = (act: Act | "overflow" | undefined): act is Act => act !== undefined && act !== "overflow";
  const before = (at < 0 ? acts : acts.slice(0, at)).filter(isAct);
  const after = at < 0 ? [] : withoutRepeats(acts.slice(at + 1).filter(isAct));
  // One place must be left to take events away from the front before these come (inotify-replay.ts).
  if (at < 0 && countOf(before) < limit) return { before, overflow: false, after: [], lost };
  if (countOf(before) + 1 + countOf(after) <= limit) return { before, overflow: true, after, lost };
  const kept = upTo(before, limit);
  return { before: kept, overflow: true, after: [], lost: events.length - countOf(kept) };
}

/** The kernel makes one of two equal events in a row. */
function withoutRepeats(acts: readonly Act[]): Act[] {
  const kept: Act[] = [];
  for (const act of acts) {
    const last = kept.at(-1);
    const [first] = eventsOf(act);
    const before = last === undefined ? undefined : eventsOf(last).at(-1);
    if (act.kind !== "event" || first === undefined || before === undefined || !isSame(first, before)) kept.push(act);
  }
  return kept;
}

function upTo(acts: readonly Act[], limit: number): Act[] {
  let count = 0;
  return acts.filter((act) => {
    count += eventsOf(act).length;
    return count <= limit;
  });
}
