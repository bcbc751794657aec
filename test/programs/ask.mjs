/**
 * A client that checks every answer: node ask.mjs redis|memcached|http|tls PORT. Prints "ready" after the first answers, and
 * on SIGTERM how many there were. Ends with 1 at the first answer that is not the right one.
 */
import http from "node:http";
import net from "node:net";
import tls from "node:tls";

const [kind, port] = [process.argv[2], Number(process.argv[3])];
let answers = 0;
let enough = false;
process.on("SIGTERM", () => {
  enough = true;
});

function fail(why) {
  console.log(`after ${answers} answers: ${why}`);
  process.exit(1);
}

/** The next line that comes out of a socket. */
function lines(socket) {
  let text = "";
  let wake;
  socket.on("data", (bytes) => {
    text += bytes;
    wake?.();
  });
  for (const event of ["error", "close", "end"])
    socket.on(event, (error) => !enough && fail(`the connection: ${event} ${error?.message ?? ""}`));
  return async () => {
    while (!text.includes("\n")) await new Promise((resolve) => (wake = resolve));
    const end = text.indexOf("\n");
    const line = text.slice(0, end).trimEnd();
    text = text.slice(end + 1);
    return line;
  };
}

async function talk(socket, say, expect) {
  const next = lines(socket);
  while (!enough) {
    const number = answers + 1;
    socket.write(say(number));
    const line = await next();
    if (line !== expect(number)) fail(`"${line}" instead of "${expect(number)}"`);
    counted();
    if (number % 50 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

function counted() {
  if (++answers === 20) console.log("ready");
}

async function get() {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  let socket;
  while (!enough) {
    const body = await new Promise((resolve) => {
      const request = http.get({ port, path: "/answer", agent }, (response) => {
        let text = "";
        response.on("data", (bytes) => (text += bytes)).on("end", () => resolve(text));
      });
      request.on("socket", (used) => {
        if (socket !== undefined && used !== socket) fail("another connection was needed");
        socket = used;
      });
      request.on("error", (error) => fail(error.message));
    });
    if (body !== "the answer\n") fail(`"${body}"`);
    counted();
  }
}

const kinds = {
  redis: () =>
    talk(
      net.connect(port),
      () => "INCR x\r\n",
      (n) => `:${n}`,
    ),
  async memcached() {
    const socket = net.connect(port);
    socket.write("set x 0 0 1\r\n0\r\n");
    await new Promise((resolve) => socket.once("data", resolve));
    await talk(
      socket,
      () => "incr x 1\r\n",
      (n) => `${n}`,
    );
  },
  http: get,
  tls: () =>
    talk(
      tls.connect({ port, rejectUnauthorized: false }),
      (n) => `word ${n}\n`,
      (n) => [...`word ${n}`].reverse().join(""),
    ),
};
await kinds[kind]();
console.log(`${answers} answers`);
process.exit(0);
