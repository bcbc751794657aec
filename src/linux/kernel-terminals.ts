/**
 * Whether output of a terminal is stopped, and by whom: no call tells. Read from the kernel's memory (`kernel-view.ts`).
 * Structures: linux/tty.h.
 */
import { KernelView, sightOf } from "./kernel-view.js";

/** By the character for it (^S), or by tcflow(3); each is undone by its own kind only. */
export type StoppedBy = "typing" | "call";

export class KernelTerminals {
  readonly #view: KernelView;

  private constructor(view: KernelView) {
    this.#view = view;
  }

  /** Undefined where the kernel has no type information, keeps it elsewhere (before Linux 5.15), or lets us read nothing. */
  static open(): KernelTerminals | undefined {
    const sight = sightOf({ tty_file_private: ["tty"], tty_struct: ["flow.stopped", "flow.tco_stopped"] });
    return sight && new KernelTerminals(new KernelView(sight));
  }

  /** Of a terminal of ours; undefined: it cannot be seen. */
  stopped(fd: number): StoppedBy | "not" | undefined {
    const own = this.#view.privateOf(fd);
    const tty = own === undefined ? undefined : this.#view.pointer(own + BigInt(this.#view.at("tty_file_private", "tty")));
    if (tty === undefined) return undefined;
    const flag = (member: string) => this.#view.read(tty + BigInt(this.#view.at("tty_struct", member)), 1)?.readUInt8(0);
    const [isStopped, isByCall] = [flag("flow.stopped"), flag("flow.tco_stopped")];
    if (isStopped === undefined || isByCall === undefined || isStopped > 1 || isByCall > 1) return undefined;
    return isStopped === 0 ? "not" : isByCall === 0 ? "typing" : "call";
  }
}
