/**
 * Tables of native calls (lanes.ts) that are laid out before a tree is frozen and made while it stands still.
 */
import { addressOf } from "./ffi/native.unsafe.js";
import type { Lanes } from "./lanes.js";

// A call in words of 8 bytes: function, six arguments, flags, result; lanes.ts.
const CALL_WORDS = 9;
/** The word with the result of a call. */
export const RESULT = 8;

/** Groups of calls that are laid out once and made as often as wanted, by one call from JavaScript. */
export class PreparedCalls {
  readonly #groupWords: number;
  readonly #words: BigInt64Array;
  readonly #results: Int32Array;
  readonly #address: bigint;
  readonly #groups: BigInt64Array;
  readonly #control = Buffer.allocUnsafeSlow(24);

  /** `calls`: how many a group has at most. */
  constructor({ groups, calls }: { groups: number; calls: number }) {
    // One that is empty ends the group.
    this.#groupWords = (calls + 1) * CALL_WORDS;
    this.#words = new BigInt64Array(groups * this.#groupWords);
    this.#results = new Int32Array(this.#words.buffer);
    this.#address = addressOf(bytesOf(this.#words));
    this.#groups = new BigInt64Array(groups);
    for (let i = 0; i < groups; i++) this.#groups[i] = this.#address + BigInt(i * this.#groupWords * 8);
    this.#control.writeBigUInt64LE(BigInt(groups), 8);
    this.#control.writeBigUInt64LE(addressOf(bytesOf(this.#groups)), 16);
  }

  /** Function and arguments of a call. */
  put(group: number, call: number, ...words: readonly bigint[]): void {
    this.#words.set(words, group * this.#groupWords + call * CALL_WORDS);
  }

  /** Gives every group the calls that the first one has: what differs is set afterwards, by {@link setWord}. */
  repeatFirst(): void {
    const { length } = this.#words;
    for (let filled = this.#groupWords; filled < length; filled *= 2) this.#words.copyWithin(filled, 0, Math.min(filled, length - filled));
  }

  /** Word 0 is the function, the arguments follow. */
  setWord(at: { readonly group: number; readonly call: number; readonly word: number }, value: bigint): void {
    this.#words[at.group * this.#groupWords + at.call * CALL_WORDS + at.word] = value;
  }

  /** Where a word of a call lies. */
  at(group: number, call: number, word: number): bigint {
    return this.#address + BigInt((group * this.#groupWords + call * CALL_WORDS + word) * 8);
  }

  result(group: number, call: number): number {
    return this.#results[(group * this.#groupWords + call * CALL_WORDS + RESULT) * 2] as number;
  }

  /** Sets what a call that is not made will seem to have returned. */
  setResult(group: number, call: number, value: bigint): void {
    this.#words[group * this.#groupWords + call * CALL_WORDS + RESULT] = value;
  }

  run(lanes: Lanes): void {
    this.#control.writeBigUInt64LE(0n, 0);
    lanes.runPrepared(this.#control);
  }
}

function bytesOf(words: BigInt64Array): Uint8Array {
  return new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
}
