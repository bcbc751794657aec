import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { closeSync, mkdtempSync, openSync, readFileSync, readSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ImageError, UsageError } from "../../errors.js";
import { find, requireCodec } from "./codecs.js";
import type { CodecName } from "./levels.js";
import { PAGE_BYTES } from "./format.js";
import { lz4Compress, lz4Decompress } from "./lz4.js";
import { StoreFile } from "./read.js";
import { writeStore } from "./write.js";

/** Pages of text, of zeros, and of noise. */
function somePages(count: number, seed: number): Buffer {
  const pages = Buffer.alloc(count * PAGE_BYTES);
  for (let page = 0; page < count; page++) {
    const part = pages.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES);
    if (page % 5 === 1) randomBytes(PAGE_BYTES).copy(part);
    else if (page % 5 !== 2) part.fill(`page ${page} of ${seed}, `);
  }
  return pages;
}

interface Made {
  readonly path: string;
  readonly index: ReturnType<typeof writeStore>;
}

function withStore(sources: readonly Buffer[], options: { codec: CodecName; share: boolean }, use: (made: Made) => void): void {
  const folder = mkdtempSync(join(tmpdir(), "floe-store-"));
  try {
    const raw = sources.map((bytes, i) => {
      const path = join(folder, `raw-${i}`);
      writeFileSync(path, bytes);
      return { id: i + 1, fd: openSync(path, "r") };
    });
    const path = join(folder, "store");
    const fd = openSync(path, "w+");
    const index = writeStore(fd, raw, { level: options.codec === "none" ? 0 : 1, ...options });
    for (const one of [{ fd }, ...raw]) closeSync(one.fd);
    use({ path, index });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function readStore(path: string, use: (store: StoreFile) => void): void {
  const fd = openSync(path, "r+");
  const store = new StoreFile("store", fd);
  try {
    use(store);
  } finally {
    store.close();
    closeSync(fd);
  }
}

function contents(store: StoreFile, runs: readonly { first: number; pages: number }[]): Buffer {
  return Buffer.concat(
    runs.map(({ first, pages }) => {
      const bytes = Buffer.alloc(pages * PAGE_BYTES);
      store.ready(BigInt(first * PAGE_BYTES), BigInt(bytes.length));
      readSync(store.fd, bytes, 0, bytes.length, first * PAGE_BYTES);
      store.done(BigInt(first * PAGE_BYTES), BigInt(bytes.length));
      return bytes;
    }),
  );
}

for (const codec of ["none", "lz4", "zstd"] as const) {
  for (const share of [false, true]) {
    test(`a page store gives back what it was given: ${codec}${share ? ", shared" : ""}`, () => {
      const parent = somePages(700, 1);
      const child = Buffer.from(parent);
      child.fill(9, 300 * PAGE_BYTES, 303 * PAGE_BYTES);
      const sources = [parent, child, Buffer.alloc(0), somePages(3, 2)];
      withStore(sources, { codec, share }, ({ path, index }) => {
        readStore(path, (store) => {
          assert.equal(store.codec, codec);
          sources.forEach((bytes, i) => assert.ok(contents(store, index.get(i + 1) ?? []).equals(bytes), `source ${i}`));
          assert.equal(store.pages < 700 + 10, share);
        });
        const size = readFileSync(path).length;
        if (codec !== "none") assert.ok(size < parent.length * (share ? 0.4 : 0.7), `${size} bytes`);
      });
    });
  }
}

test("a page store that is damaged anywhere is an error that says where, and no other", () => {
  const bytes = somePages(130, 3);
  withStore([bytes], { codec: "zstd", share: true }, ({ path, index }) => {
    const intact = readFileSync(path);
    for (let i = 0; i < 400; i++) {
      const damaged = Buffer.from(intact);
      const at = i < 64 ? i : Math.floor((i / 400) * intact.length);
      damaged[at] = (damaged[at] as number) ^ (1 << (i % 8));
      writeFileSync(path, i % 10 === 9 ? damaged.subarray(0, at) : damaged);
      assert.throws(
        () => readStore(path, (store) => contents(store, index.get(1) ?? [])),
        (error) => error instanceof ImageError && error.code === "IMAGE_BAD_PAGE_STORE" && error.place.offsetBytes !== undefined,
        `damaged at ${at}`,
      );
    }
  });
});

test("pages that others refer to keep their room, and a chunk without such pages gives it back", () => {
  const own = somePages(256, 4);
  const other = own.subarray(0, PAGE_BYTES);
  withStore([own, other], { codec: "lz4", share: true }, ({ path, index }) => {
    readStore(path, (store) => {
      assert.equal(store.punch(0n, BigInt(64 * PAGE_BYTES)), 0, "the first page is needed twice");
      const last = index.get(1)?.at(-1);
      assert.ok(last !== undefined);
      const freed = store.punch(64n * BigInt(PAGE_BYTES), BigInt((last.first + last.pages - 64) * PAGE_BYTES));
      assert.ok(freed > 0);
    });
    readStore(path, (store) => assert.ok(contents(store, index.get(2) ?? []).equals(other)));
  });
});

test("LZ4 in JavaScript and the library's understand each other", (t) => {
  const { native, plain } = find("lz4");
  assert.ok(plain !== undefined);
  for (const size of [1, 4, 5, 12, 13, 64, 300, 4096, 70_000, 262_144]) {
    for (const source of [Buffer.alloc(size, 7), Buffer.from("abcdefghij".repeat(size)).subarray(0, size), randomBytes(size)]) {
      const small = lz4Compress(source);
      if (small === undefined) continue;
      assert.ok(lz4Decompress(small, size)?.equals(source), `${size} bytes`);
      assert.equal(lz4Decompress(small, size + 1), undefined);
      assert.equal(lz4Decompress(small.subarray(0, -1), size), undefined);
    }
  }
  for (let i = 0; i < 2000; i++) lz4Decompress(randomBytes(i % 100), 1000);
  if (native === undefined) {
    t.diagnostic("liblz4.so.1 is not installed: only the form in JavaScript was tried");
    return;
  }
  const bytes = somePages(130, 5);
  withStore([bytes], { codec: "lz4", share: false }, ({ path }) => {
    const intact = readFileSync(path);
    const sizeOfFirst = intact.readUInt32LE(Number(intact.readBigUInt64LE(48)) + 8);
    assert.ok(lz4Decompress(intact.subarray(64, 64 + sizeOfFirst), 64 * PAGE_BYTES)?.equals(bytes.subarray(0, 64 * PAGE_BYTES)));
  });
});

test("a machine that has no library for a way to compress says which one to install", () => {
  assert.throws(
    () => requireCodec("zstd", { native: undefined, plain: undefined }),
    (error) => error instanceof UsageError && error.code === "CODEC_MISSING" && /libzstd/.test(error.message),
  );
  assert.equal(requireCodec("none").native, undefined);
});
