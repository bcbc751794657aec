"""An image streamer: image-streamer.py capture|serve IMAGES STORE. Keeps images that come in STORE, or serves those that are there.

Listens at IMAGES/streamer-capture.sock or streamer-serve.sock, for one connection, and ends with it.
"""
import array, os, socket, struct, sys, threading

mode, images, store = sys.argv[1:4]
os.makedirs(store, exist_ok=True)
listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
listener.bind(os.path.join(images, f"streamer-{mode}.sock"))
listener.listen(1)
connection, _ = listener.accept()
os.unlink(os.path.join(images, f"streamer-{mode}.sock"))
movers = []


def receive(fd, name):
    with open(os.path.join(store, name), "xb") as out:
        while piece := os.read(fd, 1 << 20):
            out.write(piece)
    os.close(fd)


def send(fd, name):
    with open(os.path.join(store, name), "rb") as image:
        while piece := image.read(1 << 16):
            while piece:
                piece = piece[os.write(fd, piece) :]
    os.close(fd)


pending, fds, wanted = b"", [], None
while True:
    data, control, _, _ = connection.recvmsg(65536, 1024)
    for _, _, body in control:
        numbers = array.array("i")
        numbers.frombytes(body[: len(body) // 4 * 4])
        fds += numbers
    if not data:
        break
    pending += data
    while pending:
        if wanted is not None:
            if not fds:
                break
            pending = pending[1:]
            mover = threading.Thread(target=receive if mode == "capture" else send, args=(fds.pop(0), wanted))
            mover.start()
            movers.append(mover)
            wanted = None
            continue
        if len(pending) < 4 or len(pending) < 4 + struct.unpack("<I", pending[:4])[0]:
            break
        (length,) = struct.unpack("<I", pending[:4])
        message, pending = pending[4 : 4 + length], pending[4 + length :]
        assert message[0] == 0x0A and message[1] == length - 2, message
        name = message[2:].decode()
        assert "/" not in name, name
        there = mode == "capture" or os.path.exists(os.path.join(store, name))
        if mode == "serve":
            connection.sendall(struct.pack("<I", 2) + bytes([8, int(there)]))
        wanted = name if there else None
for mover in movers:
    mover.join()
