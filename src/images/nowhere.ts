/**
 * Images that are made and thrown away: for a rehearsal of a dump.
 */
import { closeSync, openSync } from "node:fs";
import { MessageWriter } from "./codec/encode.js";
import { MFD_CLOEXEC, memfdCreate } from "../linux/memory.js";
import type { ImageKindName } from "./kinds.js";
import type { DumpSink, ImageRecord } from "./sink.js";

/** Encodes what it gets, like the real one, and keeps nothing. */
export class NowhereSink implements DumpSink {
  readonly #writer = new MessageWriter();
  readonly #raw: number[] = [];

  append<T>(_kind: ImageKindName, _ids: readonly (number | bigint)[], record: ImageRecord<T>): void {
    this.#writer.record(record.type, record.value);
  }

  touch(): void {
    // Nothing is kept, so nothing has to be there.
  }

  rawFile(): number {
    const fd = openSync("/dev/null", "w");
    this.#raw.push(fd);
    return fd;
  }

  scratch(): number | undefined {
    const fd = memfdCreate("floe-rehearsal", MFD_CLOEXEC);
    this.#raw.push(fd);
    return fd;
  }

  giveName(): void {
    // Nothing is kept.
  }

  finish(): void {
    this.discard();
  }

  discard(): void {
    for (const fd of this.#raw.splice(0)) closeSync(fd);
  }
}
