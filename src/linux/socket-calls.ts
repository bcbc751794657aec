/**
 * Calls on a socket that are laid out once and made on many sockets, those of each by one native run (lanes.ts).
 *
 * A call from JavaScript costs several times what the kernel needs for it, and a socket is asked a hundred questions.
 */
import { ERRNO, kernelError } from "./errno.js";
import { addressOf, syscallNumber } from "./ffi/native.unsafe.js";
import { Lanes, nativeFunction } from "./lanes.js";
import { SYS } from "./syscalls.js";

/** One call; all have the socket as their first argument. */
export type SocketCall =
  | { readonly call: "getsockopt"; readonly level: number; readonly name: number; readonly maxBytes: number }
  | { readonly call: "setsockopt"; readonly level: number; readonly name: number; readonly value: number }
  /** With room for an int. */
  | { readonly call: "ioctl"; readonly request: number };

// A call in words of 8 bytes: function, six arguments, flags, result; lanes.ts.
const CALL_WORDS = 9;
const RESULT = 8;
/** Two calls, of which the first puts the descriptor into the second, and the end. */
const GROUP_WORDS = 2 * CALL_WORDS + 1;
const INT_BYTES = 4;
/** Bytes of a value before the kernel has written it: no option has such a value. */
const UNTOUCHED = 0xa5;

export class SocketCalls implements Disposable {
  readonly #calls: readonly SocketCall[];
  /** Where the value of each call lies; its length has a place of its own. */
  readonly #places: readonly number[];
  readonly #values: Buffer;
  readonly #before: Buffer;
  readonly #lengths: Int32Array;
  readonly #rooms: Int32Array;
  readonly #words: BigInt64Array;
  readonly #results: Int32Array;
  readonly #groups: BigInt64Array;
  readonly #control = Buffer.allocUnsafeSlow(24);
  readonly #fd = new BigInt64Array(1);
  readonly #lanes = new Lanes({ areaBytes: 1, count: 1 });

  constructor(calls: readonly SocketCall[]) {
    this.#calls = calls;
    let sizeBytes = 0;
    this.#places = calls.map((call) => {
      const at = sizeBytes;
      sizeBytes += (roomOf(call) + 7) & ~7;
      return at;
    });
    this.#values = Buffer.allocUnsafeSlow(Math.max(8, sizeBytes)).fill(UNTOUCHED);
    this.#rooms = new Int32Array(calls.map(roomOf));
    this.#lengths = new Int32Array(calls.length);
    this.#words = new BigInt64Array(calls.length * GROUP_WORDS);
    this.#results = new Int32Array(this.#words.buffer);
    this.#groups = new BigInt64Array(calls.length);
    this.#layOut();
    this.#before = Buffer.from(this.#values);
  }

  #layOut(): void {
    const base = addressOf(bytesOf(this.#words));
    const [fd, values, lengths] = [addressOf(bytesOf(this.#fd)), addressOf(this.#values), addressOf(bytesOf(this.#lengths))];
    const [syscall, memcpy] = [nativeFunction("syscall"), nativeFunction("memcpy")];
    this.#calls.forEach((call, i) => {
      const at = i * GROUP_WORDS;
      const next = at + CALL_WORDS;
      const value = values + BigInt(this.#places[i] as number);
      this.#groups[i] = base + BigInt(at * 8);
      this.#words.set([memcpy, base + BigInt((next + 2) * 8), fd, 8n], at);
      if (call.call === "ioctl") this.#words.set([syscall, BigInt(SYS.ioctl), 0n, BigInt(call.request), value], next);
      else {
        const option = [BigInt(call.level), BigInt(call.name), value];
        const length = call.call === "getsockopt" ? lengths + BigInt(i * INT_BYTES) : BigInt(INT_BYTES);
        this.#words.set([syscall, BigInt(call.call === "getsockopt" ? SYS.getsockopt : SYS.setsockopt), 0n, ...option, length], next);
        if (call.call === "setsockopt") this.#values.writeInt32LE(call.value, this.#places[i] as number);
      }
    });
    this.#control.writeBigUInt64LE(BigInt(this.#calls.length), 8);
    this.#control.writeBigUInt64LE(addressOf(bytesOf(this.#groups)), 16);
  }

  /** Makes all calls on `fd`, also those after one that fails. */
  run(fd: number): void {
    this.#fd[0] = BigInt(fd);
    this.#lengths.set(this.#rooms);
    this.#values.set(this.#before);
    this.#control.writeBigUInt64LE(0n, 0);
    this.#lanes.runPrepared(this.#control);
  }

  /** Whether call number `index` of the last run succeeded. */
  succeeded(index: number): boolean {
    return this.#results[(index * GROUP_WORDS + CALL_WORDS + RESULT) * 2] === 0;
  }

  /** Fails if a call of the last run did; native runs keep no errno, so that call is made again. */
  check(doing: string): void {
    const index = this.#calls.findIndex((_, i) => !this.succeeded(i));
    const failed = this.#calls[index];
    if (failed === undefined) return;
    const fd = Number(this.#fd[0]);
    const value = Buffer.alloc(Math.max(INT_BYTES, roomOf(failed)));
    let got: number | bigint;
    if (failed.call === "ioctl") got = syscallNumber(SYS.ioctl, fd, failed.request, value);
    else if (failed.call === "setsockopt") {
      value.writeInt32LE(failed.value, 0);
      got = syscallNumber(SYS.setsockopt, fd, failed.level, failed.name, value, INT_BYTES);
    } else {
      const length = Buffer.alloc(INT_BYTES);
      length.writeInt32LE(failed.maxBytes, 0);
      got = syscallNumber(SYS.getsockopt, fd, failed.level, failed.name, value, length);
    }
    throw kernelError(`${doing}: ${failed.call}(${fd}, …), number ${index}`, got < 0 ? got : -ERRNO.EIO);
  }

  /** The value of an int. */
  int(index: number): number {
    return this.#values.readInt32LE(this.#places[index] as number);
  }

  /** A copy of a value, as long as the kernel said it is. */
  bytes(index: number): Buffer {
    const at = this.#places[index] as number;
    const length = Math.min(this.#lengths[index] as number, this.#rooms[index] as number);
    return Buffer.from(this.#values.subarray(at, at + length));
  }

  /** A copy of all values, to compare those of other sockets with. */
  keep(): Buffer {
    return Buffer.from(this.#values);
  }

  /** Whether all values of the last run are those that were kept; also one that could not be had is none that could. */
  isLike(kept: Buffer): boolean {
    return this.#values.equals(kept);
  }

  /** How long the kernel said a value is. */
  length(index: number): number {
    return this.#lengths[index] as number;
  }

  [Symbol.dispose](): void {
    this.#lanes.close();
  }
}

function roomOf(call: SocketCall): number {
  return call.call === "getsockopt" ? call.maxBytes : INT_BYTES;
}

function bytesOf(words: BigInt64Array | Int32Array): Uint8Array {
  return new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
}
