/**
 * The XSAVE area: which components this processor has and where they lie, from cpuid leaf 0xd.
 *
 * Offsets differ between makers (PKRU lies at 2688 or 2432 or 832), so none is assumed.
 */
import { callMachineCode } from "../../linux/ffi/native.unsafe.js";
import { NT_X86_XSTATE, ptraceGetRegset } from "../../linux/ptrace.js";

/** Numbers of components in XCR0 (Intel SDM vol. 1, 13.1), and the offset of the XSAVE header. */
export const XSTATE = {
  headerOffset: 512,
  avx: 2,
  bndregs: 3,
  bndcsr: 4,
  opmask: 5,
  zmmHi256: 6,
  hi16Zmm: 7,
  pkru: 9,
  tileConfig: 17,
  tileData: 18,
} as const;

/** Layout of the area as ptrace(2) exchanges it. */
export interface XstateLayout {
  readonly sizeBytes: number;
  /** Components the kernel saves, as a bit set. */
  readonly supported: bigint;
  /** Offset and size of each component above SSE. */
  readonly components: ReadonlyMap<number, { readonly offset: number; readonly sizeBytes: number }>;
}

/** mov rsi,rdi; loads eax and ecx from memory, cpuid, stores eax ebx ecx edx; keeps rbx as the ABI wants. */
const CPUID_CODE = Buffer.from("534889fe8b068b4e040fa28906895e04894e0889560c31c05bc3", "hex");

/** cpuid — registers eax, ebx, ecx, edx for a leaf and subleaf. */
export function cpuid(leaf: number, subleaf: number): { eax: number; ebx: number; ecx: number; edx: number } {
  const memory = Buffer.alloc(16);
  memory.writeUInt32LE(leaf >>> 0, 0);
  memory.writeUInt32LE(subleaf >>> 0, 4);
  callMachineCode(CPUID_CODE, memory);
  return {
    eax: memory.readUInt32LE(0),
    ebx: memory.readUInt32LE(4),
    ecx: memory.readUInt32LE(8),
    edx: memory.readUInt32LE(12),
  };
}

const MAX_AREA_BYTES = 64 << 10;
let cached: XstateLayout | undefined;

/** The layout on this machine; `tid` is any thread we hold, asked for the area's size. */
export function xstateLayout(tid: number): XstateLayout {
  if (cached !== undefined) return cached;
  const sizeBytes = ptraceGetRegset(tid, NT_X86_XSTATE, Buffer.alloc(MAX_AREA_BYTES));
  const { eax, edx } = cpuid(0xd, 0);
  const supported = (BigInt(edx) << 32n) | BigInt(eax);
  const components = new Map<number, { offset: number; sizeBytes: number }>();
  for (let n = 2; n < 63; n++) {
    if ((supported & (1n << BigInt(n))) === 0n) continue;
    const { eax: size, ebx: offset } = cpuid(0xd, n);
    if (offset + size <= sizeBytes) components.set(n, { offset, sizeBytes: size });
  }
  cached = { sizeBytes, supported, components };
  return cached;
}

/** Size of the area, once it has been asked for. */
export function knownXstateBytes(): number | undefined {
  return cached?.sizeBytes;
}

/** Reads the whole area of a stopped thread. */
export function readXstate(tid: number, layout: XstateLayout): Buffer {
  const area = Buffer.alloc(layout.sizeBytes);
  ptraceGetRegset(tid, NT_X86_XSTATE, area);
  return area;
}

/** Offset of component `n` in `area`, or undefined when this processor does not have it. */
export function component(layout: XstateLayout, area: Buffer, n: number): number | undefined {
  const found = layout.components.get(n);
  return found !== undefined && found.offset + found.sizeBytes <= area.length ? found.offset : undefined;
}
