/**
 * BPF maps whose elements are plain data: hashes, arrays, tries, also those with values for each processor.
 *
 * Read from   fdinfo (frozen, memlock), bpf(BPF_OBJ_GET_INFO_BY_FD), bpf(BPF_MAP_LOOKUP_BATCH)
 * Made with   bpf(BPF_MAP_CREATE), bpf(BPF_MAP_UPDATE_BATCH), bpf(BPF_MAP_FREEZE), bpf(BPF_MAP_GET_FD_BY_ID)
 * Refused     maps of other kinds, which hold programs, maps or sockets, and those of a network device: BPF_MAP_KIND
 *
 * Two descriptors may be of one map without being of one open file: the map is made once, by its number in the images.
 */
import { closeSync, readFileSync } from "node:fs";
import { ImageError, Refusal } from "../../errors.js";
import {
  BPF_F_NUMA_NODE,
  BPF_F_RDONLY,
  BPF_F_WRONLY,
  BPF_MAP_TYPE,
  type BpfMapShape,
  bpfMapById,
  bpfMapCreate,
  bpfMapElements,
  bpfMapFill,
  bpfMapFreeze,
  bpfMapInfo,
} from "../../linux/bpf.js";
import { fdInfoField } from "../../linux/proc/fdinfo.js";
import type { DumpSession, Fd, FileKind, OpenFile, RestoreSession } from "../part.js";
import { bpfmapDataEntry } from "./bpfmap-data.schema.js";
import type { BpfmapFileEntry } from "./bpfmap.schema.js";

const O_ACCMODE = 3;
const O_RDONLY = 0;
const O_WRONLY = 1;
const PLAIN: readonly number[] = Object.values(BPF_MAP_TYPE);
const PER_CPU: readonly number[] = [BPF_MAP_TYPE.PERCPU_ARRAY, BPF_MAP_TYPE.PERCPU_HASH, BPF_MAP_TYPE.LRU_PERCPU_HASH];

/** Bytes of a value as user space sees it: of each possible processor, in eights. */
function valueBytes({ type, valueBytes: one }: Pick<BpfMapShape, "type" | "valueBytes">): number {
  return PER_CPU.includes(type) ? Math.ceil(one / 8) * 8 * possibleProcessors() : one;
}

function possibleProcessors(): number {
  const last = /(\d+)\s*$/.exec(readFileSync("/sys/devices/system/cpu/possible", "latin1"))?.[1];
  return Number(last ?? 0) + 1;
}

function refusal(file: OpenFile, shape: BpfMapShape, because: string): Refusal {
  return new Refusal({
    code: "BPF_MAP_KIND",
    process: { pid: file.task.traced.pid, comm: file.task.comm },
    resource: `fd ${file.fd}, the BPF map "${shape.name}" (type ${shape.type})`,
    because,
    remedy: ["Let the program close the map before the dump, and make it again afterwards"],
  });
}

const savedMaps = new WeakMap<DumpSession, Set<number>>();

function saveElements(session: DumpSession, shape: BpfMapShape & { id: number }): void {
  const saved = savedMaps.get(session) ?? new Set();
  savedMaps.set(session, saved);
  if (saved.has(shape.id)) return;
  saved.add(shape.id);
  // The descriptor itself may be for writing only.
  const fd = bpfMapById(shape.id, BPF_F_RDONLY);
  try {
    const { keys, values, count } = bpfMapElements(fd, shape, valueBytes(shape));
    const value = { map_id: shape.id, keys_bytes: keys.length, values_bytes: values.length, count };
    session.images.append("BPFMAP_DATA", [], { type: bpfmapDataEntry, value, extra: Buffer.concat([keys, values]) });
  } finally {
    closeSync(fd);
  }
}

const made = new WeakMap<RestoreSession, Map<number, Fd>>();

/** The map of an entry, with its elements, frozen if it was. */
function mapOf(entry: BpfmapFileEntry, session: RestoreSession): Fd {
  const maps = made.get(session) ?? new Map<number, Fd>();
  made.set(session, maps);
  const known = maps.get(entry.map_id);
  if (known !== undefined) return known;
  const fd = bpfMapCreate({
    type: entry.map_type,
    keyBytes: entry.key_size,
    valueBytes: entry.value_size,
    maxEntries: entry.max_entries,
    flags: entry.map_flags & ~(BPF_F_NUMA_NODE | BPF_F_RDONLY | BPF_F_WRONLY),
    name: entry.map_name,
    extra: entry.map_extra ?? 0n,
  });
  session.closeLater(fd);
  maps.set(entry.map_id, fd);
  const data = elementsOf(entry, session);
  if (data !== undefined) {
    const { value, extra } = data;
    bpfMapFill(fd, { keys: extra.subarray(0, value.keys_bytes), values: extra.subarray(value.keys_bytes), count: value.count });
  }
  if (entry.frozen) bpfMapFreeze(fd);
  return fd;
}

function elementsOf(entry: BpfmapFileEntry, session: RestoreSession) {
  const records = session.images.records("BPFMAP_DATA", [], bpfmapDataEntry, (value) => value.keys_bytes + value.values_bytes);
  return records.find(({ value }) => value.map_id === entry.map_id);
}

export const bpfMaps: FileKind<BpfmapFileEntry> = {
  name: "devices/bpf-map",
  rows: ["file.bpf-map"],
  type: "BPFMAP",
  field: "bpf",
  isPathless: true,
  matches: ({ link }) => link === "anon_inode:bpf-map",
  dump(file, session) {
    const info = bpfMapInfo(file.local);
    if (!PLAIN.includes(info.type)) {
      session.refuse(refusal(file, info, "maps of this kind hold programs, maps, sockets or messages, which are not carried"));
      return undefined;
    }
    if (info.ifindex !== 0) {
      session.refuse(refusal(file, info, "it belongs to a network device"));
      return undefined;
    }
    if (info.btfId !== 0) session.warn(`fd ${file.fd} of process ${file.task.pid}: the types (BTF) of its BPF map are not carried`);
    saveElements(session, info);
    return {
      id: file.id,
      flags: file.info.flags,
      pos: file.info.pos,
      fown: file.fown,
      map_type: info.type,
      key_size: info.keyBytes,
      value_size: info.valueBytes,
      map_id: info.id,
      max_entries: info.maxEntries,
      map_flags: info.flags,
      memlock: BigInt(fdInfoField(file.info, "memlock") ?? "0"),
      frozen: fdInfoField(file.info, "frozen") === "1",
      map_name: info.name,
      ifindex: 0,
      map_extra: info.extra,
    };
  },
  check(entry, session) {
    const bad = (because: string) =>
      new ImageError({
        code: "IMAGE_BAD_VALUE",
        place: { file: "bpfmap-data.img", message: "bpfmap_data_entry", field: "count" },
        because: `the elements of BPF map ${entry.map_id} ${because}`,
        remedy: ["Use an intact copy of the images directory", "Dump the process again"],
      });
    const data = elementsOf(entry, session)?.value;
    if (data === undefined) return [];
    if (data.count > entry.max_entries || data.count * entry.key_size > data.keys_bytes) return [bad("are more than it can hold")];
    const bytes = valueBytes({ type: entry.map_type, valueBytes: entry.value_size });
    if (data.count * bytes > data.values_bytes) return [bad("have no values for all processors of this machine")];
    return [];
  },
  open(entry, session) {
    const map = mapOf(entry, session);
    const access = entry.flags & O_ACCMODE;
    return bpfMapById(bpfMapInfo(map).id, access === O_RDONLY ? BPF_F_RDONLY : access === O_WRONLY ? BPF_F_WRONLY : 0);
  },
};
