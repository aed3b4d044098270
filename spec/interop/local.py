"""The local end of a stream: a unix socket that this program dials for a service, or that connected to it for one of the peer's."""
import asyncio

from session import Stream
from wire import ACCEPT, REFUSE

MOST_WAITING = 262144


class Local(asyncio.Protocol):
    def __init__(self, peer, stream=None):
        self.peer, self.stream, self.transport = peer, stream, None

    def connection_made(self, transport):
        self.transport = transport
        transport.set_write_buffer_limits(0)
        if self.stream is not None:
            return
        session = self.peer.session()
        if session is None or session.draining:
            return transport.abort()
        self.stream = Stream(session, f'far-{id(self)}', 'far', mine=True)
        self.stream.local = self
        session.open(self.stream)

    def data_received(self, data):
        if not self.stream.finishing:
            self.stream.out += data
        if len(self.stream.out) > MOST_WAITING:
            self.transport.pause_reading()
        self.work()

    def eof_received(self):
        self.stream.finishing = True
        self.work()
        return True

    def resume_writing(self):
        self.has_left()

    def work(self):
        session = self.stream.session
        if session.link is not None and session.link.session is session:
            session.link.work()
        if len(self.stream.out) <= MOST_WAITING and not self.transport.is_closing():
            self.transport.resume_reading()

    def write(self, data):
        self.transport.write(data)
        self.has_left()

    def has_left(self):
        """R-FLOW-3: bytes count as released when the socket has taken them."""
        if self.transport.get_write_buffer_size() == 0:
            self.stream.leave(self.stream.came - self.stream.left)

    def end(self, in_order):
        if in_order:
            self.transport.close()
        else:
            self.transport.abort()


async def dial(peer, stream, path):
    session = stream.session
    local = Local(peer, stream)
    try:
        await asyncio.get_running_loop().create_unix_connection(lambda: local, path)
    except OSError as error:
        if session.streams.get(stream.id) is stream:
            session.end_stream(stream, REFUSE, 'connect-refused', str(error))
        return
    if session.streams.get(stream.id) is not stream:
        return local.transport.abort()
    stream.local, stream.answered = local, True
    session.send(ACCEPT, stream.id)
    local.write(bytes(stream.kept))
    if stream.fin_came:
        local.transport.write_eof()
    local.work()
