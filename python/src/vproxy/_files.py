"""The files of a peer: every call, once, as in ``_calls``, over a stream of its own to the service ``sftp`` (docs/sftp.md)."""

from __future__ import annotations

import os
import re
import socket
import struct
from collections import deque
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from functools import partial
from inspect import isawaitable
from io import BytesIO
from struct import pack, unpack, unpack_from
from typing import Any, AsyncIterable, AsyncIterator, Iterable, List, Literal, NamedTuple, Optional, Union

from . import _calls
from . import _core as core
from ._errors import FileError, Lost, Refused, VproxyError, file_error

#: What can be written; Any: a binary file.
Data = Union[str, core.Buffer, Iterable[core.Buffer], AsyncIterable[core.Buffer], Any]
_WHOLE = str, bytes, bytearray, memoryview
Seconds = Optional[float]

# Numbers of SFTP 3: requests, answers, flags of OPEN, codes of STATUS; INIT has its version where others have their number.
_INIT, _OPEN, _CLOSE, _READ, _WRITE, _LSTAT, _SETSTAT, _FSETSTAT, _OPENDIR, _READDIR = 1, 3, 4, 5, 6, 7, 9, 10, 11, 12
_REMOVE, _MKDIR, _RMDIR, _STAT, _EXTENDED = 13, 14, 15, 17, 200
_VERSION, _STATUS, _HANDLE, _DATA, _NAME, _ATTRS = 2, 101, 102, 103, 104, 105
_TO_READ, _TO_APPEND, _TO_CREATE = 1, 2 | 4 | 8, 2 | 8 | 32
_OK, _EOF, _VERSION_3 = 0, 1, 3
_ERRORS = {2: "ENOENT", 3: "EACCES", 5: "EINVAL", 8: "ENOSYS"}

#: Every answer has size, owner, mode and times.
_ALL_ATTRIBUTES, _ATTRIBUTES_BYTES = 1 | 2 | 4 | 8, 32
_KINDS: dict[int, Literal["file", "folder", "link"]] = {0o100000: "file", 0o040000: "folder", 0o120000: "link"}

#: The longest answer and path, and how much of its name a part has, which makes it longer.
_MAX_PACKET_BYTES, _MAX_PATH_BYTES, _MAX_NAME_BYTES = 263_168, 4096, 200

#: The most of one READ or WRITE, and how many of a call are in flight: 2 MiB; and how many READDIR and REMOVE.
_PIECE_BYTES, _AHEAD, _LISTS_AHEAD, _REMOVES_AHEAD = 261_120, 8, 4, 64

#: The most memory of a list, that of an entry besides its name, and the pause while the peer has no room, in seconds.
_MAX_LIST_BYTES, _ENTRY_BYTES, _ROOM_S = 1 << 31, 256, 0.1

#: The most folders that a removal has yet to do: up to 1 GiB of paths.
_MAX_FOLDERS = 1 << 18

#: The longest that the removal of a part takes, in seconds.
_DISCARD_S = 5.0


class Entry(NamedTuple):
    """A file, a folder, a link or something else; ``modified_at`` is in seconds since 1970."""

    name: str
    kind: Literal["file", "folder", "link", "other"]
    size: int
    mode: int
    uid: int
    gid: int
    modified_at: int


def _bytes_of(path: core.Word) -> bytes:
    """A path as the peer gets it. Raises TypeError and ValueError."""
    encoded = os.fsencode(path)
    if not encoded or b"\0" in encoded:
        raise ValueError(f"not a path: {encoded[:80]!r}")
    if len(encoded) > _MAX_PATH_BYTES:
        raise file_error("ENAMETOOLONG", f"path too long: {len(encoded)} bytes (max {_MAX_PATH_BYTES})", encoded)
    return encoded


def _text(text: bytes) -> bytes:
    return pack(">I", len(text)) + text


def _attributes(mode: int | None = None) -> bytes:
    return pack(">I", 0) if mode is None else pack(">II", 4, core.whole(mode, "mode", 0, 0o7777))


_POSIX_RENAME = _text(b"posix-rename@openssh.com")


def _malformed(why: str) -> VproxyError:
    return VproxyError("protocol-error", f"the peer sent a malformed answer of sftp: {why}")


def _is_at_hand(data: Data) -> bool:
    """Whether reading it needs no other stream."""
    return isinstance(data, _WHOLE) or hasattr(data, "read") and not hasattr(data, "__aiter__")


async def _each(data: Any) -> AsyncIterator[Any]:
    """What a file, a stream of asyncio or an iterable has."""
    is_file = hasattr(data, "read")
    for item in iter(partial(data.read, _PIECE_BYTES), b"") if is_file else data:
        item = await item if isawaitable(item) else item
        if is_file and item == b"":
            break
        yield item


async def _pieces_of(data: Any) -> AsyncIterator[bytearray]:
    """Yields data in pieces for WRITE. Raises TypeError for what is not bytes."""
    data = [data.encode() if isinstance(data, str) else data] if isinstance(data, _WHOLE) else data
    held = bytearray()
    async for item in data if hasattr(data, "__aiter__") and not hasattr(data, "read") else _each(data):
        view = memoryview(item).cast("B")
        for at in range(0, len(view), _PIECE_BYTES):
            held += view[at : at + _PIECE_BYTES]
            if len(held) >= _PIECE_BYTES:
                yield held[:_PIECE_BYTES]
                del held[:_PIECE_BYTES]
    if held:
        yield held


def _text_at(packet: bytearray, at: int) -> tuple[bytes, int]:
    """A text in an answer, and where the next field begins. Raises struct.error if it is cut off."""
    (length,) = unpack_from(">I", packet, at)
    return unpack_from(f"{length}s", packet, at + 4)[0], at + 4 + length


def _entry_at(packet: bytearray, at: int, name: str) -> Entry:
    flags, size, uid, gid, mode, _, modified_at = unpack_from(">IQIIIII", packet, at)
    if flags != _ALL_ATTRIBUTES:
        raise _malformed("other attributes")
    return Entry(name, _KINDS.get(mode & 0o170000, "other"), size, mode & 0o7777, uid, gid, modified_at)


def _entries_of(packet: bytearray) -> list[Entry]:
    """The next entries of a folder, whose names lead nowhere else."""
    entries, at = [], 9
    for _ in range(unpack_from(">I", packet, 5)[0] or 1):
        name, at = _text_at(packet, at)
        _, at = _text_at(packet, at)
        if not name or b"/" in name or b"\0" in name:
            raise _malformed("not a name")
        entries.append(_entry_at(packet, at, os.fsdecode(name)))
        at += _ATTRIBUTES_BYTES
    return entries


class _Stream(_calls.Call):
    """Requests, numbered from INIT on, and their answers, which come in the same order."""

    def __init__(self, process: _calls.Vproxy, connection: _calls.Connection, headers: dict[str, str], *first: Any) -> None:
        self._received = bytearray()
        #: Whether it ends in the middle of a request.
        self.is_cut = False
        self._sent = self._answered = _VERSION_3 - 1
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, core.TAKEN_BYTES)
        super().__init__(process, connection, headers, self._packet(_INIT) + self._packet(*first))

    def lost(self, reason: VproxyError | None) -> VproxyError:
        code, why = ("connect-failed", "the peer ended the stream") if reason is None else (reason.code, reason)
        return reason if isinstance(reason, Refused) else Lost(code, f"the files of the peer were lost: {why}")

    def _packet(self, kind: int, *fields: core.Buffer) -> bytes:
        self._sent += 1
        return b"".join((pack(">IBI", 5 + sum(map(len, fields)), kind, self._sent), *fields))

    async def post(self, kind: int, *fields: core.Buffer) -> None:
        packet, self.is_cut = self._packet(kind, *fields), True
        await self.send(*(packet[at : at + core.TAKEN_BYTES] for at in range(0, len(packet), core.TAKEN_BYTES)))
        self.is_cut = False

    async def ask(self, path: bytes, kind: int, *fields: core.Buffer, wants: int = _STATUS) -> Any:
        await self.post(kind, *fields)
        return await self.answer(path, wants)

    async def answer(self, path: bytes, wants: int = _STATUS) -> Any:
        """
        Waits for the answer to the next request, which is about a path. Returns what it has, with a handle as requests have it;
        None at the end of a file or a folder. Raises the error that it reports.
        """
        (size,) = unpack(">I", await self._take(4))
        if not 5 <= size <= _MAX_PACKET_BYTES:
            raise _malformed(f"{size} bytes")
        packet = await self._take(size)
        kind, number = unpack_from(">BI", packet)
        self._answered += 1
        if number != self._answered or kind not in (wants, _STATUS):
            raise _malformed("of no request")
        try:
            if kind in (_HANDLE, _DATA):
                return _text(_text_at(packet, 5)[0]) if kind == _HANDLE else _text_at(packet, 5)[0]
            if kind != _STATUS:
                return _entries_of(packet) if kind == _NAME else _entry_at(packet, 5, "") if kind == _ATTRS else None
            (status,), (text, _) = unpack_from(">I", packet, 5), _text_at(packet, 9)
        except struct.error:
            raise _malformed("cut off") from None
        if status == _OK and wants == _STATUS or status == _EOF and wants in (_DATA, _NAME):
            return None
        shown = re.sub("[^ -~]", "?", text[:256].decode(errors="replace"))
        message, code = (re.findall(r"(.*) \((E[A-Z0-9]+)\)$", shown) or [(shown, _ERRORS.get(status, "EIO"))])[0]
        raise file_error(code, message, path)

    async def _take(self, count: int) -> bytearray:
        while len(self._received) < count:
            self._received += await self.receive()
        taken = self._received[:count]
        del self._received[:count]
        return taken

    async def fill(self, path: bytes, handle: bytes, data: Data) -> None:
        """Writes an open file, and closes it."""
        at = 0
        async for piece in _pieces_of(data):
            await self.post(_WRITE, handle, pack(">QI", at, len(piece)), piece)
            at += len(piece)
            if self._sent - self._answered >= _AHEAD:
                await self.answer(path)
        await self.post(_CLOSE, handle)
        while self._answered < self._sent:
            await self.answer(path)

    async def discard(self, part: bytes, end: float | None) -> None:
        """Waits until all that was asked is done, and then, unless it is cut, the removal of a part. Its answers are not read."""
        self.deadline = end
        self.connection.set_timeout(core.left(end))
        with suppress(VproxyError, OSError):
            if not self.is_cut:
                await self.post(_REMOVE, _text(part))
            self.connection.end_input()
            while core.left(end):
                await self.receive()

    async def clear(self, path: bytes) -> list[bytes]:
        """Removes what is in a folder, as far as its next folders; returns these."""
        found: dict[bool, list[bytes]] = {True: [], False: []}
        handle = await self.ask(path, _OPENDIR, _text(path), wants=_HANDLE)
        while not found[True] and (entries := await self.ask(path, _READDIR, handle, wants=_NAME)):
            for entry in entries:
                if entry.name not in (".", ".."):
                    found[entry.kind == "folder"].append(_bytes_of(path + b"/" + os.fsencode(entry.name)))
            while some := found[False][:_REMOVES_AHEAD]:
                del found[False][:_REMOVES_AHEAD]
                for each in some:
                    await self.post(_REMOVE, _text(each))
                for each in some:
                    with suppress(FileNotFoundError):
                        await self.answer(each)
        await self.ask(path, _CLOSE, handle)
        return found[True]


class Files:
    """
    The files that the peer lets copies use. Paths are those of its machine, absolute or from its home or allowed folder. A path
    that fails raises FileError, which is also FileNotFoundError and so on; ``timeout`` silent seconds raise TimedOut.
    """

    def __init__(self, channel: _calls.Channel) -> None:
        self._channel = channel

    @asynccontextmanager
    async def _stream(self, timeout: Seconds, *first: Any, waits: bool = True, has_turn: bool = False) -> AsyncIterator[_Stream]:
        """A stream with a first request. If it ``waits``, for its turn and for room at the peer."""
        process, label, end = self._channel.process, self._channel.label, core.deadline(timeout)
        async with AsyncExitStack() as turn:
            if waits and not has_turn:
                await turn.enter_async_context(process._turn(label, core.left(end), "sftp"))
            while True:
                try:
                    opened = await self._channel._open("sftp", core.left(end))
                    with closing(opened[0]):
                        stream = _Stream(process, *opened, *first)
                        stream.connection.set_timeout(timeout)
                        await stream.answer(b"", _VERSION)
                        waits = False
                        yield stream
                        return
                except Lost as error:
                    if error.code != "too-many-streams" or not waits or core.left(end) == 0:
                        raise
                await process._pause(_ROOM_S)

    async def _ask(self, path: bytes, timeout: Seconds, *request: Any, wants: int = _STATUS) -> Any:
        async with self._stream(timeout, *request) as stream:
            return await stream.answer(path, wants)

    async def pieces(
        self, path: core.Word, offset: int = 0, length: int | None = None, *, timeout: Seconds = None, _waits: bool = False
    ) -> AsyncIterator[bytes]:
        """Iterates over the bytes of a file, from an offset on, at most ``length``. Raises Lost if the peer has no room for it."""
        name, at = _bytes_of(path), core.whole(offset, "offset", 0, core.MAX_INTEGER)
        end = core.MAX_INTEGER if length is None else at + core.whole(length, "length", 0, core.MAX_INTEGER)
        async with self._stream(timeout, _OPEN, _text(name), pack(">II", _TO_READ, 0), waits=_waits) as stream:
            handle = await stream.answer(name, _HANDLE)
            asked, ahead = at, 1
            flying: deque[tuple[int, int]] = deque()
            while at < end:
                while len(flying) < ahead and asked < end:
                    flying.append((asked, min(_PIECE_BYTES, end - asked)))
                    await stream.post(_READ, handle, pack(">QI", *flying[-1]))
                    asked += flying[-1][1]
                piece, (start, count), ahead = await stream.answer(name, _DATA), flying.popleft(), min(2 * ahead, _AHEAD)
                if start != at:  # it was asked for before a short piece
                    continue
                if piece is None:
                    break
                if not 0 < len(piece) <= count:
                    raise _malformed(f"{len(piece)} bytes of {count}")
                at += len(piece)
                yield piece
                if len(piece) < count:  # the end, or a file of the kernel, which gives a page at a time
                    asked, ahead = at, 1

    async def read(self, path: core.Word, offset: int = 0, length: int | None = None, *, timeout: Seconds = None) -> bytes:
        """The bytes of a file, from an offset on, at most ``length``."""
        content = BytesIO()  # its value is no copy
        async for piece in self.pieces(path, offset, length, timeout=timeout, _waits=True):
            content.write(piece)
        return content.getvalue()

    async def read_text(
        self, path: core.Word, encoding: str | None = None, errors: str | None = None, *, timeout: Seconds = None
    ) -> str:
        """The text of a file, by default UTF-8, with one kind of line end."""
        form = core.as_text(True, encoding, errors)
        return str(form.decoded(await self.read(path, timeout=timeout)))

    async def write(self, path: core.Word, data: Data, mode: int | None = None, *, timeout: Seconds = None) -> None:
        """
        Writes a file whole or not at all: bytes, text, a binary file, or bytes in pieces, also of an async iterator. Replaces a
        file, or a link itself, of that name; the new file has the permissions of the old one, or ``mode``.
        """
        name, handle, _ = _bytes_of(path), b"", _attributes(mode)
        above, last = os.path.split(name)
        part = os.path.join(above, b".%s.vproxy-%s" % (last[:_MAX_NAME_BYTES], os.urandom(8).hex().encode()))
        async with self._stream(timeout, _LSTAT, _text(name), waits=_is_at_hand(data)) as stream:
            with suppress(FileNotFoundError):
                there = await stream.answer(name, _ATTRS)
                if there.kind in ("folder", "other"):
                    raise file_error("EISDIR" if there.kind == "folder" else "EINVAL", "not a file", name)
                mode = there.mode if mode is None and there.kind == "file" else mode
            try:
                how = pack(">I", _TO_CREATE) + _attributes(mode)
                handle = await stream.ask(name, _OPEN, _text(part), how, wants=_HANDLE)
                if mode is not None:  # whatever the umask there
                    await stream.ask(name, _FSETSTAT, handle, _attributes(mode))
                await stream.fill(name, handle, data)
                await stream.ask(name, _EXTENDED, _POSIX_RENAME, _text(part), _text(name))
            except BaseException as error:
                if handle or not isinstance(error, FileError):
                    end = core.deadline(_DISCARD_S if timeout is None else min(timeout, _DISCARD_S))
                    await stream.discard(part, end)
                    if stream.is_cut:
                        with suppress(VproxyError):
                            async with self._stream(core.left(end), _REMOVE, _text(part), has_turn=True) as other:
                                await other.answer(part)
                raise

    async def append(self, path: core.Word, data: Data, *, timeout: Seconds = None) -> None:
        """Writes at the end of a file, which is created if it is missing."""
        name, how, waits = _bytes_of(path), pack(">II", _TO_APPEND, 0), _is_at_hand(data)
        async with self._stream(timeout, _OPEN, _text(name), how, waits=waits) as stream:
            await stream.fill(name, await stream.answer(name, _HANDLE), data)

    async def list(self, path: core.Word, *, timeout: Seconds = None) -> List[Entry]:
        """The entries of a folder, by name; a link is itself."""
        name, room = _bytes_of(path), _MAX_LIST_BYTES
        found: List[Entry] = []
        async with self._stream(timeout, _OPENDIR, _text(name)) as stream:
            handle = await stream.answer(name, _HANDLE)
            for _ in range(_LISTS_AHEAD):
                await stream.post(_READDIR, handle)
            while entries := await stream.answer(name, _NAME):
                await stream.post(_READDIR, handle)
                found += entries
                room -= sum(_ENTRY_BYTES + len(entry.name) for entry in entries)
                if room < 0:
                    raise VproxyError("protocol-error", f"the peer lists more than {len(found)} entries")
        return sorted(entry for entry in found if entry.name not in (".", ".."))

    async def stat(self, path: core.Word, follow_links: bool = True, *, timeout: Seconds = None) -> Entry:
        """What a path leads to, or the link itself."""
        name = _bytes_of(path)
        entry: Entry = await self._ask(name, timeout, _STAT if follow_links else _LSTAT, _text(name), wants=_ATTRS)
        return entry._replace(name=os.path.basename(os.fsdecode(name).rstrip("/")))

    async def exists(self, path: core.Word, *, timeout: Seconds = None) -> bool:
        """Whether a path leads to something."""
        try:
            return bool(await self.stat(path, timeout=timeout))
        except FileError as error:
            if error.code not in ("ENOENT", "ENOTDIR", "ELOOP"):
                raise
            return False

    async def mkdir(
        self, path: core.Word, parents: bool = False, exist_ok: bool = False, mode: int | None = None, *, timeout: Seconds = None
    ) -> None:
        """Makes a folder, as pathlib does, but with exactly this mode."""
        name = _bytes_of(path).rstrip(b"/") or b"/"
        try:
            await self._ask(name, timeout, _MKDIR, _text(name), _attributes(mode))
        except FileNotFoundError:
            if not parents or not os.path.dirname(name).strip(b"/"):
                raise
            await self.mkdir(os.path.dirname(name), True, True, timeout=timeout)
            await self.mkdir(name, False, exist_ok, mode, timeout=timeout)
        except FileError:  # which one, if it is there, is up to the peer
            with suppress(FileError):
                if exist_ok and (await self.stat(name, timeout=timeout)).kind == "folder":
                    return
            raise
        else:
            if mode is not None:
                await self.chmod(name, mode, timeout=timeout)

    async def remove(
        self, path: core.Word, recursive: bool = False, missing_ok: bool = False, *, timeout: Seconds = None
    ) -> None:
        """Removes a file, a link or an empty folder; with ``recursive`` a folder and all that is in it. Follows no link."""
        given = _bytes_of(path)
        stack = [name := given.rstrip(b"/") or b"/"]
        if os.path.basename(name) in (b".", b".."):  # after a link, where that leads
            raise ValueError(f"not removed: {name!r}")
        with suppress(*[FileNotFoundError] * missing_ok):
            async with self._stream(timeout, _LSTAT, _text(name)) as stream:
                kind = (await stream.answer(name, _ATTRS)).kind
                if kind not in ("folder", "link") and name != given:
                    raise file_error("ENOTDIR", "not a directory", given)
                if kind != "folder":
                    await stream.ask(name, _REMOVE, _text(name))
                    return
                while stack:
                    with suppress(*[FileNotFoundError] * recursive):  # by someone else
                        if recursive and (folders := await stream.clear(stack[-1])):
                            stack += folders
                            if len(stack) > _MAX_FOLDERS:
                                raise VproxyError("protocol-error", f"the peer lists more than {_MAX_FOLDERS} folders")
                            continue
                        await stream.ask(stack[-1], _RMDIR, _text(stack[-1]))
                    stack.pop()

    async def rename(self, old: core.Word, new: core.Word, *, timeout: Seconds = None) -> None:
        """Renames a file, a folder or a link; replaces what has the new name, as os.replace does."""
        name = _bytes_of(old)
        await self._ask(name, timeout, _EXTENDED, _POSIX_RENAME, _text(name), _text(_bytes_of(new)))

    async def chmod(self, path: core.Word, mode: int, *, timeout: Seconds = None) -> None:
        """Sets the permissions of what a path leads to."""
        name = _bytes_of(path)
        await self._ask(name, timeout, _SETSTAT, _text(name), _attributes(mode))
