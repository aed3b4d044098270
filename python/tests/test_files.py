"""
The files of a peer: ``Hostile`` against a peer that this file plays, the others against a running pair, whose host has the control
socket in $VPROXY_SOCKET, and whose guest shares the files of this machine and allows copies.
"""

import asyncio
import contextlib
import hashlib
import io
import os
import pathlib
import pickle
import random
import stat
import struct
import tempfile
import threading
import time
import tracemalloc
import unittest
from unittest import mock

from test_fake import Fake, answer_of

import vproxy
from vproxy import FileError, Lost, Refused, TimedOut, Vproxy, VproxyError, aio

OK, END, MISSING, FAILED = 0, 1, 2, 4
STATUS, HANDLE, DATA, NAME, ATTRS = 101, 102, 103, 104, 105


def text(value):
    return struct.pack(">I", len(value)) + value


def packet(kind, number, *fields):
    content = struct.pack(">BI", kind, number) + b"".join(struct.pack(">I", each) if isinstance(each, int) else each for each in fields)
    return text(content)


def attributes(mode, size=0):
    return struct.pack(">IQIIIII", 15, size, 0, 0, mode, 0, 0)


def status(number, code, message=b"no"):
    return packet(STATUS, number, code, text(message), text(b""))


def entry(name, mode=0o100644):
    return text(name) + text(b"long") + attributes(mode)


VERSION = packet(2, 3)
#: To the first request, whose number is 4: INIT has that of its version.
OPENED = VERSION + packet(HANDLE, 4, text(b"h"))


def says(data, *, stays=False):
    """A peer that sends this, whatever it is asked."""

    def answer(connection):
        connection.sendall(data)
        while stays and connection.recv(1 << 16):
            pass

    return answer


class Hostile(unittest.TestCase):
    def refuse(self, kind, code, data, work):
        for way in ("sync", "aio"):
            with self.subTest(data=data[:60], way=way), Fake(says(data)) as fake, self.assertRaises(kind) as raised:
                if way == "sync":
                    work(Vproxy(fake.path).channel("vm1").files)
                else:
                    asyncio.run(work(aio.Vproxy(fake.path).channel("vm1").files))
            self.assertEqual(raised.exception.code, code)

    def test_malformed_answers(self):
        for data in (
            text(b""), text(b"\2\0\0\0"), struct.pack(">I", 263_169) + bytes(300_000), b"\xff" * 9, packet(2, 4), packet(HANDLE, 3),
            VERSION + packet(HANDLE, 5, text(b"h")), VERSION + packet(HANDLE, 3, text(b"h")), VERSION + packet(DATA, 4, text(b"h")),
            VERSION + packet(HANDLE, 4), VERSION + packet(HANDLE, 4, 5, b"four"), VERSION + packet(HANDLE, 4, 0xFFFFFFFF, b"four"),
            VERSION + packet(STATUS, 4), VERSION + packet(STATUS, 4, FAILED, 9, b"no"), VERSION + VERSION,
            OPENED + packet(DATA, 5, text(b"")), OPENED + packet(DATA, 5, text(b"12345")), OPENED + packet(DATA, 5, 4, b"123"),
            OPENED + packet(NAME, 5, 1, entry(b"a")), OPENED + packet(DATA, 5, text(b"123")) + packet(DATA, 5, text(b"1")),
        ):  # fmt: skip
            self.refuse(VproxyError, "protocol-error", data, lambda files: files.read("a", length=4))

    def test_malformed_folders(self):
        for found in (
            (0,), (1,), (1, entry(b"")), (1, entry(b"../a")), (1, entry(b"a/")), (1, entry(b"a\0")), (2, entry(b"a")), (1, entry(b"a")[:-1]),
            (0xFFFFFFFF, entry(b"a")), (1, entry(b"a").replace(struct.pack(">I", 15), struct.pack(">I", 7), 1)),
        ):  # fmt: skip
            self.refuse(VproxyError, "protocol-error", OPENED + packet(NAME, 5, *found), lambda files: files.list("a"))
        data = VERSION + packet(ATTRS, 4, attributes(stat.S_IFDIR)) + packet(HANDLE, 5, text(b"h")) + packet(NAME, 6, 1, entry(b"../a"))
        self.refuse(VproxyError, "protocol-error", data, lambda files: files.remove("a", recursive=True))

    def test_an_end_in_the_middle(self):
        whole = OPENED + packet(DATA, 5, text(b"1234"))
        for end in (0, 3, len(VERSION), len(OPENED), len(whole) - 1):
            self.refuse(Lost, "connect-failed", whole[:end], lambda files: files.read("a"))

    def test_endless_answers(self):
        def folder(connection):
            number = 4
            connection.sendall(OPENED)
            while True:
                number += 1
                connection.sendall(packet(NAME, number, 1000, *[entry(b"%d" % each) for each in range(1000)]))

        def tree(connection, folders=1):
            connection.sendall(VERSION + packet(ATTRS, 4, attributes(stat.S_IFDIR)))
            for number in range(5, 1 << 20, 3):
                found = packet(NAME, number + 1, folders, *[entry(b"deeper", stat.S_IFDIR)] * folders)
                for answer in (packet(HANDLE, number, text(b"h")), found, status(number + 2, OK)):
                    connection.sendall(answer)
                    connection.recv(1 << 16)

        with Fake(folder) as fake, mock.patch("vproxy._files._MAX_LIST_BYTES", 1 << 22), self.assertRaises(VproxyError) as raised:
            Vproxy(fake.path).channel("vm1").files.list("a")
        self.assertEqual(raised.exception.code, "protocol-error")
        with Fake(tree) as fake, self.assertRaises(FileError) as raised:
            Vproxy(fake.path).channel("vm1").files.remove("a", recursive=True)
        self.assertEqual(raised.exception.code, "ENAMETOOLONG")
        with Fake(lambda each: tree(each, 100)) as fake, mock.patch("vproxy._files._MAX_FOLDERS", 1000), self.assertRaises(VproxyError) as raised:
            Vproxy(fake.path).channel("vm1").files.remove("a", recursive=True)
        self.assertEqual(raised.exception.code, "protocol-error")

    def test_a_silent_peer(self):
        for data in (b"", VERSION, OPENED, OPENED[:-1]):
            with Fake(says(data, stays=True)) as fake, self.assertRaises(TimedOut):
                Vproxy(fake.path).channel("vm1").files.read("a", timeout=0.05)
            with Fake(says(data, stays=True)) as fake, self.assertRaises(TimedOut):
                asyncio.run(aio.Vproxy(fake.path).channel("vm1").files.read("a", timeout=0.05))

    def test_a_slow_peer_is_not_silent(self):
        def slow(connection):
            connection.sendall(OPENED + b"".join(status(number, OK) for number in range(5, 8)))
            while connection.recv(4096):
                time.sleep(0.03)

        async def both():
            sync, aside = (front.Vproxy(fake.path).channel("vm1").files for front in (vproxy, aio))
            words = "a", bytes(500_000)
            await asyncio.gather(asyncio.to_thread(sync.append, *words, timeout=1), aside.append(*words, timeout=1))

        with Fake(slow, slow) as fake:
            asyncio.run(both())

    def test_short_pieces_are_continued(self):
        """Some files give less than they were asked for before their end; a READ in flight is then from the wrong place."""
        piece = bytes(261_120)
        data = OPENED + packet(DATA, 5, text(piece)) + packet(DATA, 6, text(b"ab")) + status(7, END) + packet(DATA, 8, text(b"c"))
        with Fake(says(data + status(9, END) + status(10, END))) as fake:
            self.assertEqual(Vproxy(fake.path).channel("vm1").files.read("a"), piece + b"abc")

    def test_errors_of_other_servers(self):
        for code, message, kind, name in (
            (MISSING, b"No such file", FileNotFoundError, "ENOENT"), (3, b"Permission denied", PermissionError, "EACCES"),
            (FAILED, b"Failure", OSError, "EIO"), (FAILED, b"odd (ENOTHING)", OSError, "EIO"), (99, b"\xff\x1b" * 900, OSError, "EIO"),
            (FAILED, b"no (EEXIST)", FileExistsError, "EEXIST"), (OK, b"", OSError, "EIO"), (END, b"end", OSError, "EIO"),
        ):  # fmt: skip
            with Fake(says(VERSION + status(4, code, message))) as fake, self.assertRaises(kind) as raised:
                Vproxy(fake.path).channel("vm1").files.read("/a")
            copy = pickle.loads(pickle.dumps(raised.exception))
            for error in (raised.exception, copy):
                self.assertEqual((type(error), error.code, error.filename), (type(copy), name, "/a"))
                self.assertTrue(isinstance(error, (kind, VproxyError)) and str(error).isprintable() and len(str(error)) < 300)

    def test_a_full_peer(self):
        full = b'200 OK\r\n\r\n{"error": {"code": "too-many-streams", "message": "no"}}'
        content = OPENED + packet(DATA, 5, text(b"1234"))
        with mock.patch("test_fake.ENDED", full):
            with Fake(says(b""), says(b""), says(content)) as fake:
                self.assertEqual(Vproxy(fake.path).channel("vm1").files.read("a", length=4), b"1234")
            with Fake(says(b"")) as fake, self.assertRaisesRegex(Lost, "no"):
                list(Vproxy(fake.path).channel("vm1").files.pieces("a"))
        refused = answer_of({"error": {"code": "too-many-streams", "message": "no"}}, "503 No")
        with Fake(refused, refused, says(content)) as fake:
            self.assertEqual(Vproxy(fake.path).channel("vm1").files.read("a", length=4), b"1234")
        with Fake(*[refused] * 9) as fake, self.assertRaises((Lost, TimedOut)):
            Vproxy(fake.path).channel("vm1").files.read("a", timeout=0.15)
        self.assertIn(fake.served, (2, 3))

    def test_a_failed_write_removes_its_part_at_a_full_peer(self):
        refused, sent = answer_of({"error": {"code": "too-many-streams", "message": "no"}}, "503 No"), []

        def writes(connection):
            sent.append(b"")
            connection.sendall(VERSION + status(4, MISSING) + packet(HANDLE, 5, text(b"h")) + status(6, OK))
            while data := connection.recv(1 << 16):
                sent[-1] += data

        def full():
            yield bytes(300_000)
            raise Lost("too-many-streams", "no")

        with Fake(writes, *[refused] * 9) as fake, self.assertRaises(Lost):
            Vproxy(fake.path).channel("vm1").files.write("a", full())
        self.assertRegex(sent[0][-40:], rb"(?s)\r.{8}\.a\.vproxy-\w{16}$")

    def test_a_peer_that_falls_silent_in_a_write(self):
        data = VERSION + status(4, MISSING) + packet(HANDLE, 5, text(b"h"))

        def silent(connection):
            connection.sendall(data)
            gone.wait(60)

        for front in (vproxy, aio):
            gone, begun = threading.Event(), time.monotonic()
            with Fake(silent, silent) as fake, self.assertRaises(TimedOut):
                written = front.Vproxy(fake.path).channel("vm1").files.write("a", bytes(1 << 20), timeout=0.2)
                asyncio.run(written)
            gone.set()
            self.assertLess(time.monotonic() - begun, 3)

    def test_a_confined_folder_itself_is_there(self):
        denied = VERSION + status(4, 3)
        for kind, raised in ((stat.S_IFDIR, None), (stat.S_IFREG, PermissionError)):
            with Fake(says(denied), says(VERSION + packet(ATTRS, 4, attributes(kind)))) as fake, contextlib.ExitStack() as block:
                if raised:
                    block.enter_context(self.assertRaises(raised))
                Vproxy(fake.path).channel("vm1").files.mkdir(".", exist_ok=True)
            self.assertEqual(fake.served, 2)
        with Fake(says(denied)) as fake, self.assertRaises(PermissionError):
            Vproxy(fake.path).channel("vm1").files.mkdir(".")

    def test_a_peer_without_copies(self):
        with Fake(answer_of({"error": {"code": "unknown-service", "message": "no"}}, "503 No")) as fake:
            with self.assertRaisesRegex(Refused, "--allow-copy"):
                Vproxy(fake.path).channel("vm1").files.list("/")

    def test_bad_arguments_are_not_sent(self):
        files = Vproxy("/none.sock").channel("vm1").files
        for work, kind in (
            (lambda: files.read(""), ValueError), (lambda: files.read("a\0"), ValueError), (lambda: files.read(5), TypeError),
            (lambda: files.read("a", -1), ValueError), (lambda: files.read("a", length=1.5), TypeError),
            (lambda: files.write("a", b"", mode=0o10000), ValueError), (lambda: files.chmod("a", "7"), TypeError),
            (lambda: files.remove("", recursive=True), ValueError), (lambda: files.read_text("a", "none"), LookupError),
            (lambda: files.read("a" * 5000), OSError), (lambda: files.read("a"), Lost),
        ):  # fmt: skip
            self.assertRaises(kind, work)


class Paired(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.here, self.files = pathlib.Path(folder.name), Vproxy().channel().files

    def test_what_is_written_is_read(self):
        path, data = self.here / "a", os.urandom(700_000)
        with tempfile.TemporaryFile() as file:
            file.write(data)
            for given in (
                data, bytearray(data), memoryview(data), [data], (data[at : at + 999] for at in range(0, len(data), 999)),
                io.BytesIO(data), file, [b"", data[:2], memoryview(data)[2:12].cast("H"), data[12:]],
            ):  # fmt: skip
                file.seek(0)
                self.files.write(path, given)
                self.assertEqual(path.read_bytes(), data)
        self.assertEqual(self.files.read(path, 600_000, 1000), data[600_000:601_000])
        self.assertEqual((self.files.read(path, 699_999), self.files.read(path, 1 << 40), self.files.read(path, 5, 0)), (data[-1:], b"", b""))
        self.files.write(path, "ü\r\nß")
        self.files.append(path, "\r")
        self.files.append(os.fsencode(self.here / "b"), [b"new"])
        self.assertEqual((path.read_bytes(), self.files.read_text(path)), ("ü\r\nß\r".encode(), "ü\nß\n"))
        self.assertEqual(self.files.read_text(self.here / "b", "ascii"), "new")
        self.files.write(path, "")
        self.assertEqual((self.files.read(path), list(self.files.pieces(path))), (b"", []))
        for name in ("/proc/cpuinfo", "/proc/kallsyms", "/proc/self/maps"):
            self.assertGreater(len(self.files.read(name)), 100)
        self.assertEqual(self.files.read("/proc/kallsyms"), pathlib.Path("/proc/kallsyms").read_bytes())

    def test_64_mebibytes_in_pieces(self):
        data = os.urandom(1 << 20)
        self.files.write(self.here / "a", (data for _ in range(64)))
        hashed, expected = hashlib.sha256(), hashlib.sha256(data * 64).hexdigest()
        for piece in self.files.pieces(self.here / "a"):
            hashed.update(piece)
        self.assertEqual((hashed.hexdigest(), hashlib.sha256((self.here / "a").read_bytes()).hexdigest()), (expected, expected))
        self.assertEqual(next(self.files.pieces(self.here / "a", 5)), (data * 2)[5 : 5 + 261_120])
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        self.assertEqual(len(self.files.read(self.here / "a")), 64 << 20)
        self.assertLess(tracemalloc.get_traced_memory()[1], 80 << 20)

    def test_permissions(self):
        path = self.here / "a"
        self.files.write(path, b"1", mode=0o666)
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o666)
        path.chmod(0o640)
        self.files.write(path, b"2")
        self.assertEqual((stat.S_IMODE(path.stat().st_mode), path.read_bytes()), (0o640, b"2"))
        self.files.chmod(path, 0o400)
        self.files.mkdir(self.here / "x/y/z", parents=True, mode=0o777)
        self.assertEqual([self.files.stat(self.here / name).mode for name in ("a", "x/y/z")], [0o400, 0o777])

    def test_stat_and_links(self):
        (self.here / "a").write_bytes(b"12345")
        (self.here / "link").symlink_to("a")
        (self.here / "loose").symlink_to("none")
        (self.here / "loop").symlink_to("loop")
        os.mkfifo(self.here / "fifo")
        kinds = [(each.name, each.kind) for each in self.files.list(self.here)]
        self.assertEqual(kinds, [("a", "file"), ("fifo", "other"), ("link", "link"), ("loop", "link"), ("loose", "link")])
        there, here = self.files.stat(self.here / "link"), (self.here / "a").stat()
        self.assertEqual(there, ("link", "file", 5, stat.S_IMODE(here.st_mode), here.st_uid, here.st_gid, int(here.st_mtime)))
        self.assertEqual(self.files.stat(self.here / "link", follow_links=False).kind, "link")
        self.assertEqual([self.files.exists(self.here / name) for name in ("a", "link", "loose", "loop", "none", "a/b")], [True, True, *[False] * 4])
        self.files.write(self.here / "link", b"new")
        self.assertEqual(((self.here / "a").read_bytes(), (self.here / "link").is_symlink()), (b"12345", False))
        for name in ("fifo", "/dev/null"):
            self.assertRaises(FileError, self.files.write, self.here / name, b"")

    def test_names_are_bytes(self):
        names = [b"\xff\xfe", "ü".encode(), b"a\nb", b"-rf", b"x" * 255, b"\\", b" "]
        for name in names:
            path = os.fsencode(self.here) + b"/" + name
            self.files.write(path, name)
            self.assertEqual(self.files.read(os.fsdecode(path)), name)
        self.assertEqual([each.name for each in self.files.list(self.here)], sorted(map(os.fsdecode, names)))
        for name in names:
            self.files.rename(os.fsencode(self.here) + b"/" + name, self.here / "same")
        self.assertEqual((os.listdir(self.here), self.files.read(self.here / "same")), (["same"], names[-1]))

    def test_errors_have_classes(self):
        (self.here / "folder").mkdir()
        (self.here / "folder/file").touch()
        (self.here / "file").touch()
        for work, *names in (
            (self.files.read, "none"), (self.files.read, "folder"), (self.files.read, "file/x"), (self.files.mkdir, "file"),
            (self.files.mkdir, "none/x"), (self.files.list, "file"), (self.files.list, "none"), (self.files.remove, "none"),
            (self.files.remove, "folder"), (self.files.rename, "none", "x"), (self.files.rename, "folder", "file"),
            (self.files.rename, "file", "folder"), (self.files.chmod, "none"), (self.files.stat, "none"),
        ):  # fmt: skip
            paths = [str(self.here / name) for name in names]
            here = {"read": lambda path: open(path, "rb"), "list": os.listdir, "chmod": lambda path: os.chmod(path, 0)}
            here["remove"] = os.rmdir if names == ["folder"] else os.remove
            name = work.__name__
            with self.subTest(name=name, names=names):
                with self.assertRaises(OSError) as expected:
                    here.get(name, getattr(os, name, None))(*paths)
                with self.assertRaises(type(expected.exception)) as raised:
                    work(*paths, *[0] * (name == "chmod"))
                self.assertIsInstance(raised.exception, FileError)
                self.assertEqual((raised.exception.errno, raised.exception.filename), (expected.exception.errno, paths[0]))
        self.assertRaises(NotADirectoryError, self.files.remove, f"{self.here}/file/", recursive=True)
        self.files.mkdir(self.here / "folder", exist_ok=True)
        self.assertRaises(FileExistsError, self.files.mkdir, self.here / "file", exist_ok=True)
        self.assertRaises(IsADirectoryError, self.files.write, self.here / "folder", b"")
        self.assertRaises(FileNotFoundError, self.files.write, self.here / "none/x", b"")
        self.files.remove(self.here / "none", missing_ok=True)

    def test_recursive_removal(self):
        outside = self.here / "outside"
        outside.mkdir()
        (outside / "kept").touch()
        top = self.here / "top"
        (top / "/".join(["d"] * 100)).mkdir(parents=True)
        for index in range(100):
            (top / f"f{index}").touch()
            (top / f"d{index}").mkdir()
            (top / f"d{index}" / "f").touch()
        for place in (top, top / "d/d", top / "d5"):
            (place / "link").symlink_to(outside)
        (self.here / "to-outside").symlink_to(outside)
        for name in ("to-outside/.", "to-outside/..", "."):
            self.assertRaises(ValueError, self.files.remove, name, recursive=True)
        self.assertRaises(OSError, self.files.remove, top)
        self.files.remove(f"{self.here}/to-outside/", recursive=True)
        self.files.remove(top, recursive=True)
        self.assertEqual((os.listdir(self.here), os.listdir(outside)), (["outside"], ["kept"]))

    def test_a_failed_write_leaves_nothing(self):
        (self.here / "a").write_bytes(b"old")

        def failing(error):
            yield bytes(500_000)
            raise error

        for given, kind in (
            (failing(KeyError()), KeyError), (failing(KeyboardInterrupt()), KeyboardInterrupt), (["text"], TypeError), ([b"1", 5], TypeError),
            (io.StringIO("text"), TypeError), (5, TypeError),
        ):  # fmt: skip
            self.assertRaises(kind, self.files.write, self.here / "a", given)
            self.assertEqual((os.listdir(self.here), (self.here / "a").read_bytes()), (["a"], b"old"))

    def test_a_killed_program_leaves_the_old_file(self):
        (self.here / "a").write_bytes(b"old")

        def die():
            yield bytes(1 << 20)
            os._exit(0)

        pid = os.fork()
        if pid == 0:
            self.files.write(self.here / "a", die())
        os.waitpid(pid, 0)
        self.assertEqual((self.here / "a").read_bytes(), b"old")


class Asynchronous(unittest.IsolatedAsyncioTestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.here, self.files = folder.name, aio.Vproxy().channel().files

    async def test_2000_files(self):
        asyncio.get_running_loop().set_debug(False)
        expected = {f"f{index:04}": os.urandom(index) for index in range(2000)}
        await asyncio.gather(*(self.files.write(f"{self.here}/{name}", data) for name, data in expected.items()))
        found = await self.files.list(self.here)
        self.assertEqual([(each.name, each.size) for each in found], [(name, len(data)) for name, data in expected.items()])
        self.assertEqual(await asyncio.gather(*(self.files.read(f"{self.here}/{name}") for name in expected)), list(expected.values()))
        some = list(expected)[:500]
        await asyncio.gather(*(self.files.rename(f"{self.here}/{name}", f"{self.here}/r{name}") for name in some))
        self.assertEqual(sorted(os.listdir(self.here)), sorted([*[f"r{name}" for name in some], *list(expected)[500:]]))
        await asyncio.gather(*(self.files.remove(f"{self.here}/r{name}") for name in some))
        self.assertEqual(sorted(os.listdir(self.here)), list(expected)[500:])
        await self.files.remove(self.here + "/", recursive=True)
        self.assertFalse(os.path.exists(self.here))
        os.mkdir(self.here)

    async def test_a_file_is_copied_from_pieces(self):
        data = os.urandom(3_000_000)
        await self.files.write(f"{self.here}/a", data)
        names = [f"{self.here}/{index}" for index in range(20)]
        await asyncio.gather(*(self.files.write(name, self.files.pieces(f"{self.here}/a")) for name in names))
        self.assertEqual({pathlib.Path(name).read_bytes() for name in names}, {data})

    async def test_a_file_is_written_from_a_stream(self):
        data, reader = os.urandom(700_000), asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        await self.files.write(f"{self.here}/a", reader)
        async with await aio.Vproxy().channel().popen(["cat", f"{self.here}/a"]) as process:
            await self.files.append(f"{self.here}/b", process.stdout)
        self.assertEqual([pathlib.Path(self.here, name).read_bytes() for name in "ab"], [data] * 2)

    async def test_a_cancelled_write_leaves_no_part(self):
        path, contents = f"{self.here}/a", [bytes([each]) * 1_500_000 for each in (1, 2)]
        await self.files.write(path, contents[0])

        async def turns(count):
            """Cancels it after so many turns of the loop; returns whether it was done before."""
            task = asyncio.ensure_future(self.files.write(path, contents[1]))
            for _ in range(count):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
            return not task.cancelled()

        points, most = 0, 1
        while not await turns(most):
            most *= 2
        for point in [*range(0, 40, 3), *(random.randrange(most) for _ in range(30))]:
            await turns(point)
            self.assertEqual(os.listdir(self.here), ["a"], point)
            self.assertIn(pathlib.Path(path).read_bytes(), contents, point)
            points += 1
        self.assertEqual(points, 44)


if __name__ == "__main__":
    unittest.main()
