/** Image directories for tests that damage them. */
import { cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import type { MessageType } from "../../src/images/codec/schema.js";
import type { ImageKindName } from "../../src/images/kinds.js";
import { DirectorySink } from "../../src/images/sink.js";
import { DirectorySource } from "../../src/images/source.js";

export class ImageFolder {
  readonly path: string;
  readonly #intact: string;

  /** Takes the images as they are now for intact; `keep` is where a copy of them lies. */
  constructor(path: string, keep: string) {
    this.path = path;
    this.#intact = keep;
    cpSync(path, keep, { recursive: true });
  }

  names(): string[] {
    return readdirSync(this.#intact).sort();
  }

  /** As they were. */
  reset(): void {
    for (const name of readdirSync(this.path)) rmSync(join(this.path, name), { recursive: true });
    cpSync(this.#intact, this.path, { recursive: true });
  }

  intact(name: string): Buffer {
    return readFileSync(join(this.#intact, name));
  }

  write(name: string, bytes: Uint8Array): void {
    writeFileSync(join(this.path, name), bytes);
  }

  remove(name: string): void {
    rmSync(join(this.path, name));
  }

  /** Puts other records into an image. */
  edit<T>(
    image: { readonly kind: ImageKindName; readonly ids: readonly number[]; readonly type: MessageType<T> },
    change: (records: T[]) => T[],
  ): void {
    const source = new DirectorySource(this.path);
    const values = source.records(image.kind, image.ids, image.type).map((record) => record.value);
    source.close();
    const sink = new DirectorySink(this.path);
    sink.touch(image.kind, image.ids);
    for (const value of change(values)) sink.append(image.kind, image.ids, { type: image.type, value });
    sink.finish();
  }
}

/** Numbers that look random and are the same in every run (xorshift32). */
export function randomNumbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}
