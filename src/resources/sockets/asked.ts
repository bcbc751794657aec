/**
 * Options of sockets, as many sockets of one kind are asked for them: what the first ones were asked, all others are asked by one native
 * run (linux/socket-calls.ts). So nobody keeps a list of what is asked, and each is asked while its program stands still.
 */
import { SocketCalls } from "../../linux/socket-calls.js";
import { SO } from "../../linux/socket-options.js";
import { SOL_SOCKET, type SocketOption, getsockopt, getsockoptInt, getsockoptLength } from "../../linux/sockets.js";
import type { DumpSession, Fd } from "../part.js";

/** Answers of one socket; good until the next socket of its kind is asked. Undefined: the socket does not know the option. */
export interface Asked {
  int(option: SocketOption): number | undefined;
  bytes(option: SocketOption, maxBytes: number): Buffer | undefined;
  /** How long its value is, told when there is no room for it. */
  length(option: SocketOption): number | undefined;
  /** What `make` makes of values (not of lengths); or what it has made, under the same name, of the same values of another socket. */
  made<T extends object>(name: string, make: () => T): T;
}

/** Asks one by one. */
export function askedDirectly(fd: Fd): Asked {
  return {
    int: (option) => attempt(() => getsockoptInt(fd, option)),
    bytes: (option, maxBytes) => attempt(() => getsockopt(fd, option, maxBytes)),
    length: (option) => attempt(() => getsockoptLength(fd, option)),
    made: (_name, make) => make(),
  };
}

function attempt<T>(get: () => T): T | undefined {
  try {
    return get();
  } catch {
    return undefined;
  }
}

/** Family, type and protocol. */
export interface SocketKind {
  readonly family: number;
  readonly type: number;
  readonly proto: number;
}

const option = (fd: Fd, name: number) => getsockoptInt(fd, { level: SOL_SOCKET, name });

const kinds = new WeakMap<object, SocketKind>();

/** Of which kind the socket is that a file stands for. */
export function socketKindOf(file: { readonly local: Fd }): SocketKind {
  let kind = kinds.get(file);
  if (kind === undefined) {
    const { local } = file;
    kind = { family: option(local, SO.DOMAIN), type: option(local, SO.TYPE), proto: option(local, SO.PROTOCOL) };
    kinds.set(file, kind);
  }
  return kind;
}

/** So many are asked one by one: to prepare the calls takes as long as that. */
const LEARNING = 3;
const INT_BYTES = 4;
const MOST_SEEN = 32;

interface Question extends SocketOption {
  readonly maxBytes: number;
}

const keyOf = ({ level, name }: SocketOption) => level * 0x10000 + name;

/** What sockets of a kind are asked. */
class Questions {
  readonly #questions: Question[] = [];
  readonly #places = new Map<number, number>();
  /** Values of sockets, as many as differ, with what was made of them. */
  readonly #seen: { readonly values: Buffer; readonly made: Map<string, object> }[] = [];
  #sockets = 0;
  #calls: SocketCalls | undefined;

  about(fd: Fd): Asked {
    this.#sockets++;
    if (this.#sockets <= LEARNING) return this.#learning(fd);
    this.#calls ??= new SocketCalls(this.#questions.map((question) => ({ call: "getsockopt", ...question })));
    const calls = this.#calls;
    calls.run(fd);
    const directly = askedDirectly(fd);
    return {
      int: (option) => {
        const at = this.#placeOf(option, INT_BYTES);
        if (at === undefined) return directly.int(option);
        return calls.succeeded(at) ? calls.int(at) : undefined;
      },
      bytes: (option, maxBytes) => {
        const at = this.#placeOf(option, maxBytes);
        if (at === undefined) return directly.bytes(option, maxBytes);
        return calls.succeeded(at) ? calls.bytes(at) : undefined;
      },
      length: (option) => {
        const at = this.#placeOf(option, 0);
        if (at === undefined) return directly.length(option);
        return calls.succeeded(at) ? calls.length(at) : undefined;
      },
      made: (name, make) => this.#madeOf(calls, name, make),
    };
  }

  #learning(fd: Fd): Asked {
    const directly = askedDirectly(fd);
    return {
      int: (option) => {
        this.#learn(option, INT_BYTES);
        return directly.int(option);
      },
      bytes: (option, maxBytes) => {
        this.#learn(option, maxBytes);
        return directly.bytes(option, maxBytes);
      },
      length: (option) => {
        this.#learn(option, 0);
        return directly.length(option);
      },
      made: directly.made,
    };
  }

  #learn({ level, name }: SocketOption, maxBytes: number): void {
    const key = keyOf({ level, name });
    if (this.#places.has(key)) return;
    this.#places.set(key, this.#questions.length);
    this.#questions.push({ level, name, maxBytes });
  }

  #placeOf(option: SocketOption, maxBytes: number): number | undefined {
    const at = this.#places.get(keyOf(option));
    return at === undefined || this.#questions[at]?.maxBytes !== maxBytes ? undefined : at;
  }

  #madeOf<T extends object>(calls: SocketCalls, name: string, make: () => T): T {
    let seen = this.#seen.find(({ values }) => calls.isLike(values));
    if (seen === undefined) {
      seen = { values: calls.keep(), made: new Map() };
      if (this.#seen.length < MOST_SEEN) this.#seen.push(seen);
    }
    const known = seen.made.get(name) as T | undefined;
    if (known !== undefined) return known;
    const made = make();
    seen.made.set(name, made);
    return made;
  }

  dismiss(): void {
    this.#calls?.[Symbol.dispose]();
    this.#calls = undefined;
    this.#sockets = 0;
  }
}

const asked = new WeakMap<DumpSession, Map<string, Questions>>();

/** Answers of a socket of a tree that stands still. */
export function askSocket(fd: Fd, kind: SocketKind, session: DumpSession): Asked {
  let all = asked.get(session);
  if (all === undefined) {
    const made = new Map<string, Questions>();
    all = made;
    asked.set(session, made);
    const dismiss = () => {
      for (const questions of made.values()) questions.dismiss();
    };
    session.takeBack(dismiss);
    session.afterDeath(dismiss);
  }
  const key = `${kind.family}/${kind.type}/${kind.proto}`;
  let questions = all.get(key);
  if (questions === undefined) {
    questions = new Questions();
    all.set(key, questions);
  }
  return questions.about(fd);
}
