"""Hands connections on to another port, each burst of bytes a little later: a store that is far away."""

import asyncio
import sys


async def pump(reader, writer, delay):
    # What comes meanwhile waits as long, and not longer because of what came before.
    queue = asyncio.Queue()

    async def send():
        while (item := await queue.get()) is not None:
            when, data = item
            await asyncio.sleep(max(0, when - asyncio.get_running_loop().time()))
            writer.write(data)
            await writer.drain()
        writer.close()

    sender = asyncio.create_task(send())
    try:
        while data := await reader.read(1 << 20):
            await queue.put((asyncio.get_running_loop().time() + delay, data))
    except ConnectionError:
        pass
    await queue.put(None)
    try:
        await sender
    except ConnectionError:
        pass


async def main(port, target, seconds):
    async def connected(reader, writer):
        there, back = await asyncio.open_connection("127.0.0.1", target)
        # A round trip is late on its way there only.
        await asyncio.gather(pump(reader, back, seconds), pump(there, writer, 0))

    server = await asyncio.start_server(connected, "127.0.0.1", port, limit=1 << 22)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) / 1000))
