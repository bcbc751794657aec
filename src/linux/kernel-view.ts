/**
 * The kernel's memory (`kernel-memory.ts`) by the names of its structures; where their members lie is known from BTF.
 *
 * Nothing is locked: what is read is good only while nobody changes it. A file is found by a descriptor of our own.
 */
import { type StructFound, type StructsWanted, kernelStructs } from "./btf.js";
import { KernelMemory } from "./kernel-memory.js";

/** The way from a descriptor to its file: linux/sched.h, linux/fdtable.h, linux/fs.h. */
const WAY: StructsWanted = { task_struct: ["files"], files_struct: ["fdt"], fdtable: ["fd"], file: ["private_data", "f_inode"] };

export const POINTER_BYTES = 8;

let memory: KernelMemory | undefined;
let wasTried = false;

/** One program reads for all. */
function sharedMemory(): KernelMemory | undefined {
  if (!wasTried) memory = KernelMemory.open();
  wasTried = true;
  return memory;
}

function both(one: StructsWanted, other: StructsWanted): StructsWanted {
  const names = [...Object.keys(one), ...Object.keys(other)];
  return Object.fromEntries(names.map((name) => [name, [...new Set([...(one[name] ?? []), ...(other[name] ?? [])])]]));
}

/** What is needed for a look. */
export interface Sight {
  readonly layout: Readonly<Record<string, StructFound | undefined>>;
  readonly memory: KernelMemory;
}

/**
 * `wanted`: the structs that are needed, besides those on the way to a file; `more`: those that may be missing. Undefined where the
 * kernel has no type information, has them not, or lets us read nothing. Takes some 30 ms when it is called first.
 */
export function sightOf(wanted: StructsWanted, more: StructsWanted = {}): Sight | undefined {
  const needed = both(WAY, wanted);
  const layout = kernelStructs(both(needed, more));
  if (layout === undefined || Object.keys(needed).some((name) => layout[name] === undefined)) return undefined;
  const read = sharedMemory();
  return read && { layout, memory: read };
}

export class KernelView {
  readonly layout: Sight["layout"];
  readonly memory: KernelMemory;

  constructor({ layout, memory }: Sight) {
    this.layout = layout;
    this.memory = memory;
  }

  /** Offset of a member; all structs that are asked for by name are there, or it is an error of ours. */
  at(struct: string, member: string): number {
    const offset = this.layout[struct]?.at[member];
    if (offset === undefined) throw new Error(`internal error: ${struct}.${member} was not looked for`);
    return offset;
  }

  sizeOf(struct: string): number {
    return this.layout[struct]?.sizeBytes ?? 0;
  }

  has(...structs: string[]): boolean {
    return structs.every((name) => this.layout[name] !== undefined);
  }

  /** The pointers that lead from our thread ("task") to struct file of a descriptor of ours. */
  toFile(fd: number): number[] {
    return [this.at("task_struct", "files"), this.at("files_struct", "fdt"), this.at("fdtable", "fd"), fd * POINTER_BYTES];
  }

  /** Address of what belongs to the kind of a file of ours (`private_data`). */
  privateOf(fd: number): bigint | undefined {
    const found = this.memory.read({ start: "task", pointers: this.toFile(fd), offset: this.at("file", "private_data") }, POINTER_BYTES);
    return found?.readBigUInt64LE(0);
  }

  /** Bytes at an address. */
  read(address: bigint, length: number): Buffer | undefined {
    return this.memory.read({ start: address, pointers: [], offset: 0 }, length);
  }

  pointer(address: bigint): bigint | undefined {
    return this.read(address, POINTER_BYTES)?.readBigUInt64LE(0);
  }
}
