/**
 * Files whose message follows from what was read of their descriptor, without another look at anything: nearly all of the many that some
 * processes have open. Before the freeze it is found out which ones these are. What is the same in the freeze, as read there, needs a number
 * there and nothing else; the message is put together when the tree runs again.
 */
import type { DescriptorText } from "../../linux/descriptor-texts.js";
import { O_CLOEXEC } from "../../linux/files.js";
import type { DumpSession } from "../part.js";
import { hasGuards } from "../watches/guards.js";
import { isHeard } from "../watches/listeners.js";
import type { Known } from "./descriptions.js";
import { describeFile, isToldByText } from "./regular.js";
import { type FileEntry, fdTypes, fileEntry } from "./table.schema.js";
import { identityOf, needsLook } from "./unchanged.js";

const REG = fdTypes.values.REG as FileEntry["type"];
const NO_OWNER = { uid: 0, euid: 0, signum: 0, pid_type: 0, pid: 0 };

const told = new WeakSet<DescriptorText>();

/** Notes a plain file before the freeze, if its message follows from this. */
export function learnTold(text: DescriptorText, by: Pick<DumpSession, "options" | "mounts">): void {
  if (isToldByText(text, by)) told.add(text);
}

/** Numbers files of that sort in the freeze. */
export class ToldFiles {
  readonly #session: DumpSession;
  readonly #isGuarded: boolean;
  readonly #files: { readonly id: number; readonly text: DescriptorText }[] = [];

  constructor(session: DumpSession) {
    this.#session = session;
    this.#isGuarded = hasGuards(session);
    session.later(() => this.#write());
  }

  /** The entry of a file that nobody has seen yet; undefined when it has to be looked at. */
  entryFor(pid: number, text: DescriptorText): Pick<Known, "id" | "type"> | undefined {
    if (this.#isGuarded || !told.has(text)) return undefined;
    // What it is known by later may be in the file, which may be another one as soon as the tree runs.
    if (needsLook(text.stat)) identityOf(`/proc/${pid}/fd/${text.fd}`, text.stat, { isHeard: isHeard(this.#session) });
    const id = this.#session.newFileId();
    this.#files.push({ id, text });
    return { id, type: REG };
  }

  #write(): void {
    for (const { id, text } of this.#files) {
      const { link: name, info, stat } = text;
      const { flags, pos } = info;
      const reg = describeFile({ id, name, flags: flags & ~O_CLOEXEC, pos, fown: NO_OWNER, stat, openPath: undefined });
      this.#session.images.append("FILES", [], { type: fileEntry, value: { type: REG, id, reg } });
    }
  }
}
