/**
 * A process that secures one connection: TLS with certificates on both sides to the outside, plain bytes to the engine inside.
 *
 * Both ends are descriptors that were inherited (socket-streams.ts).
 */
import { readFileSync } from "node:fs";
import type { Duplex } from "node:stream";
import { type SecureContextOptions, type TLSSocket, connect, createServer } from "node:tls";
import { isIP } from "node:net";
import { exitNow } from "../../linux/exec.js";
import { becomeBackground } from "../background.js";
import { RecordCutter } from "./record-cutter.js";
import { SocketStreams } from "./socket-streams.js";
import type { RelayOrder } from "./tls.js";

/** So long the two ends may take to know each other. */
const HANDSHAKE_MS = 30_000;

/**
 * TLS 1.3 servers send tickets in the middle of the stream; a client of CRIU takes the moment in which it reads one for the end
 * ("Resource temporarily unavailable").
 */
const FOR_PEER = { maxVersion: "TLSv1.2" } as const;

/** Ends by itself: a read that is under way would hold the process. */
export async function relay(order: RelayOrder): Promise<never> {
  exitNow(await secureBoth(order));
}

async function secureBoth(order: RelayOrder): Promise<number> {
  becomeBackground([order.outer, order.inner]);
  const streams = new SocketStreams();
  const inner = streams.open(order.inner);
  inner.on("error", () => undefined);
  try {
    const secure = await handshake(order, streams.open(order.outer));
    inner.write(Buffer.from([0]));
    await both(secure, inner, order);
    return 0;
  } catch (error) {
    // What has come of it is told to the engine, which speaks for both of us.
    await new Promise<void>((done) =>
      inner.end(Buffer.from(`\x01${error instanceof Error ? error.message : String(error)}`), () => done()),
    );
    return 1;
  }
}

/** Reads the files here, so that a bad one is told like a bad certificate. */
function credentials({ tls }: RelayOrder): SecureContextOptions {
  const { cacert, cacrl, cert, key } = tls;
  return {
    ca: readFileSync(cacert),
    cert: readFileSync(cert),
    key: readFileSync(key),
    ...(cacrl === undefined ? {} : { crl: readFileSync(cacrl) }),
  };
}

function handshake(order: RelayOrder, outer: Duplex): Promise<TLSSocket> {
  const files = credentials(order);
  return new Promise((done, failed) => {
    outer.on("error", failed);
    for (const end of ["end", "close"]) outer.on(end, () => failed(new Error("the other end closed the connection")));
    setTimeout(() => failed(new Error("the other end does not speak TLS")), HANDSHAKE_MS).unref();
    if (order.role === "client") {
      const name = order.name ?? "";
      const socket = connect({
        ...files,
        socket: outer,
        ...(isIP(name) === 0 && name !== "" && !name.includes("/") ? { servername: name } : {}),
        host: name,
        ...(order.tls.checksName ? {} : { checkServerIdentity: () => undefined }),
      });
      socket.once("secureConnect", () => done(socket));
      socket.once("error", failed);
    } else {
      const server = createServer({ ...files, ...FOR_PEER, requestCert: true, rejectUnauthorized: true }, done);
      server.on("tlsClientError", failed);
      server.emit("connection", outer);
    }
  });
}

/** Each piece in records of its own: the next is written when the one before is out. */
function sendCut(inner: Duplex, secure: TLSSocket, { role }: { role: RelayOrder["role"] }): void {
  // A server answers with a few bytes, or with messages: only who asks speaks in messages alone.
  const cutter = role === "client" ? new RecordCutter() : undefined;
  inner.on("data", (chunk: Buffer) => {
    inner.pause();
    const pieces = cutter?.cut(chunk) ?? [chunk];
    const next = () => {
      const piece = pieces.shift();
      if (piece === undefined) inner.resume();
      else secure.write(piece, next);
    };
    next();
  });
  inner.on("end", () => secure.end());
}

/** Moves bytes both ways until both have ended. */
function both(secure: TLSSocket, inner: Duplex, order: RelayOrder): Promise<void> {
  return new Promise((done) => {
    let left = 2;
    const ended = () => {
      if (--left === 0) done();
    };
    const broken = () => {
      secure.destroy();
      inner.destroy();
      done();
    };
    secure.on("error", broken);
    inner.on("error", broken);
    secure.on("end", ended);
    inner.on("end", ended);
    secure.pipe(inner);
    sendCut(inner, secure, order);
  });
}
