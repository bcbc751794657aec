/**
 * How chunks of pages are compressed: by the system's liblz4.so.1 and libzstd.so.1, which lanes call, or, where those are not
 * installed, one after another in JavaScript (LZ4) or by what the runtime has built in (Zstandard).
 */
import { UsageError } from "../../errors.js";
import { type InArea, LaneWork, type Lanes, type NativeArg, type NativeFunction, nativeLibrary } from "../../linux/lanes.js";
import type { CodecName } from "./levels.js";
import { lz4Compress, lz4Decompress } from "./lz4.js";

/** Bytes at an address. */
export interface NativeBytes {
  readonly at: NativeArg;
  readonly sizeBytes: number;
}

/** Compressing and decompressing by native functions, as calls of a lane. */
export interface NativeCodec {
  /** Room that a lane needs for itself, for either direction. */
  compressorBytes(level: number): number;
  readonly decompressorBytes: number;
  /** Prepares that room, at `workspace` of each lane's area. */
  prepare(lanes: Lanes, room: { readonly workspace: number; readonly sizeBytes: number; readonly isCompressor: boolean }): void;
  /** Adds the call; the function tells how many bytes it made, 0 when they would not have fitted. */
  compress(work: LaneWork, from: NativeBytes, to: NativeBytes, how: { level: number; workspace: InArea }): () => number;
  /** Adds the call; the function tells how many bytes it made, less than 0 when these were no such bytes. */
  decompress(work: LaneWork, from: NativeBytes, to: NativeBytes, workspace: InArea): () => number;
}

/** The same, one chunk at a time. */
export interface PlainCodec {
  /** undefined: not smaller. */
  compress(plain: Uint8Array, level: number): Uint8Array | undefined;
  /** undefined: no such bytes. */
  decompress(stored: Uint8Array, plainBytes: number): Uint8Array | undefined;
}

export interface Codec {
  readonly native: NativeCodec | undefined;
  readonly plain: PlainCodec | undefined;
}

/** LZ4 levels from here on are those of its thorough compressor. */
const FIRST_HC_LEVEL = 3;
/** The library says how much it needs; far more than that is no answer. */
const MOST_WORKSPACE = 1 << 30;

function nativeLz4(): NativeCodec | undefined {
  const lib = nativeLibrary("liblz4.so.1", ["LZ4_compress_default", "LZ4_compress_HC", "LZ4_decompress_safe"]);
  if (lib === undefined) return undefined;
  return {
    compressorBytes: () => 0,
    decompressorBytes: 0,
    prepare: () => undefined,
    compress: (work, from, to, { level }) => {
      const args = [from.at, to.at, from.sizeBytes, to.sizeBytes] as const;
      const call = level < FIRST_HC_LEVEL ? work.call(lib.LZ4_compress_default, ...args) : work.call(lib.LZ4_compress_HC, ...args, level);
      return () => work.resultInt(call);
    },
    decompress: (work, from, to) => {
      const call = work.call(lib.LZ4_decompress_safe, from.at, to.at, from.sizeBytes, to.sizeBytes);
      return () => work.resultInt(call);
    },
  };
}

function nativeZstd(): NativeCodec | undefined {
  const lib = nativeLibrary("libzstd.so.1", [
    "ZSTD_compressCCtx",
    "ZSTD_decompressDCtx",
    "ZSTD_initStaticCCtx",
    "ZSTD_initStaticDCtx",
    "ZSTD_estimateCCtxSize",
    "ZSTD_estimateDCtxSize",
  ]);
  if (lib === undefined) return undefined;
  /** Errors are numbers close below 2^64. */
  const sizeOf = (result: bigint) => (result < 0n ? -1 : Number(result));
  return {
    compressorBytes: (level) => Math.min(MOST_WORKSPACE, callHere(lib.ZSTD_estimateCCtxSize, level)),
    decompressorBytes: callHere(lib.ZSTD_estimateDCtxSize),
    prepare: (lanes, { workspace, sizeBytes, isCompressor }) => {
      for (let i = 0; i < lanes.count; i++) {
        const address = lanes.area(i).address + BigInt(workspace);
        const made = callHere(isCompressor ? lib.ZSTD_initStaticCCtx : lib.ZSTD_initStaticDCtx, address, sizeBytes);
        if (BigInt(made) !== address) throw new Error("internal error: libzstd does not take its room as it is");
      }
    },
    compress: (work, from, to, { level, workspace }) => {
      const call = work.call(lib.ZSTD_compressCCtx, workspace, to.at, to.sizeBytes, from.at, from.sizeBytes, level);
      return () => Math.max(0, sizeOf(work.result(call)));
    },
    decompress: (work, from, to, workspace) => {
      const call = work.call(lib.ZSTD_decompressDCtx, workspace, to.at, to.sizeBytes, from.at, from.sizeBytes);
      return () => sizeOf(work.result(call));
    },
  };
}

/** Calls a native function in this thread. */
function callHere(what: NativeFunction, ...args: readonly NativeArg[]): number {
  const work = new LaneWork();
  work.group();
  const call = work.call(what, ...args);
  work.runHere();
  return Number(work.result(call));
}

const plainLz4: PlainCodec = { compress: (plain) => lz4Compress(plain), decompress: lz4Decompress };

interface ZstdOfRuntime {
  zstdCompressSync?(bytes: Uint8Array, options?: { params: Record<number, number> }): Uint8Array;
  zstdDecompressSync?(bytes: Uint8Array, options?: { maxOutputLength: number }): Uint8Array;
}
const ZSTD_C_COMPRESSION_LEVEL = 100;

/** node:zlib has it from Node 22.15 on, and in Bun. */
function plainZstd(): PlainCodec | undefined {
  const zlib = (process.getBuiltinModule?.("node:zlib") ?? {}) as ZstdOfRuntime;
  const { zstdCompressSync: deflate, zstdDecompressSync: inflate } = zlib;
  if (deflate === undefined || inflate === undefined) return undefined;
  return {
    compress: (plain, level) => deflate(plain, { params: { [ZSTD_C_COMPRESSION_LEVEL]: level } }),
    decompress: (stored, plainBytes) => {
      try {
        return inflate(stored, { maxOutputLength: plainBytes });
      } catch {
        return undefined;
      }
    },
  };
}

const found = new Map<CodecName, Codec>();

/** What this machine has for a codec. */
export function codecOf(name: CodecName): Codec {
  let codec = found.get(name);
  if (codec === undefined) {
    codec = find(name);
    found.set(name, codec);
  }
  return codec;
}

/** The two forms of a codec, for tests that want one of them. */
export function find(name: CodecName, form: "either" | "plain" = "either"): Codec {
  if (name === "none") return { native: undefined, plain: undefined };
  const native = form === "plain" ? undefined : name === "lz4" ? nativeLz4() : nativeZstd();
  return { native, plain: name === "lz4" ? plainLz4 : plainZstd() };
}

/** Throws when there is no way to have a codec here. */
export function requireCodec(name: CodecName, codec = codecOf(name)): Codec {
  if (name === "none" || codec.native !== undefined || codec.plain !== undefined) return codec;
  throw new UsageError({
    code: "CODEC_MISSING",
    message: `Cannot work with pages compressed by ${name}: there is no libzstd.so.1 on this machine, and Node ${process.version} has none built in`,
    remedy: ["Install it (Debian: libzstd1)", "Use the executable, or Node 22.15 or newer", "Dump with --compress lz4"],
  });
}
