"""Against a process of vproxy that this file plays: what it answers when it is full, restarts or goes in the middle."""

import asyncio
import contextlib
import gc
import json
import os
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
import unittest
from unittest import mock

from vproxy import Lost, Refused, TimedOut, Vproxy, VproxyError, aio

UPGRADED = b"101 Upgrade\r\nVproxy-End: /v1/connect/1\r\n\r\n"
ENDED = b'200 OK\r\n\r\n{"error": null}'


def record(kind, value):
    payload = value if isinstance(value, bytes) else json.dumps(value).encode()
    return struct.pack(">BI", kind, len(payload)) + payload


def exit_of(status, code=None):
    error = None if code is None else {"code": code, "message": "no"}
    told = {"status": status, "signal": None, "timedOut": False, "durationMs": 0, "error": error}
    return record(20, told)


STARTED = record(16, {"pid": 1})
FULL = UPGRADED + exit_of(None, "too-many-streams")
DONE = UPGRADED + STARTED + exit_of(0)


class Fake:
    """Answers each connection with the next of some answers, bytes or a function, and then ends it; and requests for an end."""

    def __init__(self, *answers, path=None):
        self._answers = list(answers)
        self.path = path
        self.served = 0

    def __enter__(self):
        self._folder = tempfile.TemporaryDirectory()
        self.path = self.path or f"{self._folder.name}/fake.sock"
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(self.path)
        self._server.listen(100)
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_error):
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._folder.cleanup()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection):
        with connection, contextlib.suppress(OSError):
            asked = b""
            while b"\r\n\r\n" not in asked:
                asked += connection.recv(4096)
            is_end = asked.startswith(b"GET /v1/connect/")
            if not is_end:
                self.served += 1
            answer = ENDED if is_end else self._answers.pop(0)
            connection.sendall(b"HTTP/1.1 " + (UPGRADED if callable(answer) else answer))
            if callable(answer):
                answer(connection)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass


def answer_of(value, status="200 OK"):
    return f"{status}\r\n\r\n{json.dumps(value)}".encode()


class Machine(unittest.IsolatedAsyncioTestCase):
    """What no machine of a test can do: freeze, and boot slowly."""

    FROZEN = answer_of({"channel": "vm1", "paths": ["/srv"], "forS": 10})

    async def test_a_freeze_ends_with_its_block(self):
        for cause, raised in (("asked", None), ("time", VproxyError)):
            thawed = answer_of({"channel": "vm1", "heldMs": 5, "cause": cause})
            with Fake(self.FROZEN, thawed) as fake, contextlib.ExitStack() as block:
                if raised:
                    block.enter_context(self.assertRaises(raised))
                with Vproxy(fake.path).channel("vm1").freeze("/srv") as frozen:
                    self.assertEqual(frozen.paths, ["/srv"])
            with Fake(self.FROZEN, thawed) as fake, contextlib.ExitStack() as block:
                if raised:
                    block.enter_context(self.assertRaises(raised))
                async with await aio.Vproxy(fake.path).channel("vm1").freeze("/srv"):
                    self.assertEqual(fake.served, 1)
            self.assertEqual(fake.served, 2)

    def test_a_block_that_fails_or_thaws(self):
        unknown = answer_of({"error": {"code": "not-found", "message": "no"}}, "404 No")
        with Fake(self.FROZEN, unknown) as fake, self.assertRaises(KeyError):
            with Vproxy(fake.path).channel("vm1").freeze():
                raise KeyError
        self.assertEqual(fake.served, 2)
        with Fake(self.FROZEN, answer_of({"channel": "vm1", "heldMs": 5, "cause": "time"})) as fake:
            with Vproxy(fake.path).channel("vm1").freeze() as frozen:
                self.assertEqual(frozen.thaw()["cause"], "time")
        self.assertEqual(fake.served, 2)
        failed = answer_of({"error": {"code": "internal", "message": "no"}}, "500 No")
        with Fake(self.FROZEN, failed, answer_of({"channel": "vm1", "heldMs": 5, "cause": "asked"})) as fake:
            with Vproxy(fake.path).channel("vm1").freeze() as frozen:
                self.assertRaises(VproxyError, frozen.thaw)
        self.assertEqual(fake.served, 3)

    async def test_booting_takes_as_long_as_it_takes(self):
        there, booting = answer_of({}), answer_of({"verdict": "booting", "remarks": ["cloud-init runs"]})
        lost = answer_of({"error": {"code": "no-session", "message": "no"}}, "503 No")
        booted = answer_of({"verdict": "booted", "remarks": []})
        with mock.patch("vproxy._calls._AGAIN_S", 0.01):
            with Fake(there, booting, there, lost, lost, there, booted) as fake:
                self.assertEqual(Vproxy(fake.path).channel("vm1").wait_booted()["verdict"], "booted")
            with Fake(there, booting, there, booted) as fake:
                self.assertEqual((await aio.Vproxy(fake.path).channel("vm1").wait_booted())["verdict"], "booted")
            with Fake(*[there, booting] * 1000) as fake, self.assertRaisesRegex(TimedOut, "0.1 s: cloud-init runs"):
                Vproxy(fake.path).channel("vm1").wait_booted(timeout=0.1)
            with Fake(there, booting, *[lost] * 1000) as fake, self.assertRaisesRegex(TimedOut, "^not booted after 0.1 s: no$"):
                Vproxy(fake.path).channel("vm1").wait_booted(timeout=0.1)
            with Fake(there, answer_of({"error": {"code": "unknown-service", "message": "no"}}, "503 No")) as fake:
                with self.assertRaises(Refused):
                    Vproxy(fake.path).channel("vm1").wait_booted()


class Room(unittest.IsolatedAsyncioTestCase):
    """A peer whose commands are too many."""

    async def test_run_waits_its_turn(self):
        for full in (FULL, b'503 Busy\r\n\r\n{"error": {"code": "too-many-streams", "message": "no"}}'):
            with Fake(*[full] * 4, DONE) as fake:
                self.assertEqual(Vproxy(fake.path).channel("vm1").run(["true"], timeout=60).returncode, 0)
                self.assertEqual(fake.served, 5)
            with Fake(*[full] * 4, DONE) as fake:
                self.assertEqual((await aio.Vproxy(fake.path).channel("vm1").run(["true"])).returncode, 0)
                self.assertEqual(fake.served, 5)

    async def test_within_its_timeout(self):
        with Fake(*[FULL] * 1000) as fake:
            for work in (
                lambda: Vproxy(fake.path).channel("vm1").run(["true"], timeout=0.3),
                lambda: asyncio.run(aio.Vproxy(fake.path).channel("vm1").run(["true"], timeout=0.3)),
            ):
                begun = time.monotonic()
                with self.assertRaises(subprocess.TimeoutExpired) as late:
                    await asyncio.to_thread(work) if hasattr(asyncio, "to_thread") else work()
                self.assertEqual((late.exception.timeout, late.exception.cmd), (0.3, ["true"]))
                self.assertLess(time.monotonic() - begun, 20)

    async def test_a_command_that_waits(self):
        """The runner has what it asked for, but gets no input before there is room, and no more time than the caller has."""
        heard = []

        def start_late(connection):
            heard.append(connection.recv(65_536))
            connection.settimeout(1.2)
            with contextlib.suppress(socket.timeout):
                heard.append(connection.recv(1))
            connection.settimeout(None)
            connection.sendall(STARTED + record(17, b"x"))
            heard.append(connection.recv(5, socket.MSG_WAITALL))
            while connection.recv(65_536):
                connection.sendall(record(17, b"x"))

        for vm in (Vproxy, aio.Vproxy):
            with Fake(start_late, lambda connection: connection.recv(65_536) and connection.recv(1)) as fake:
                for timeout, expected in ((2, b"x"), (0.3, b"")):
                    begun = time.monotonic()
                    with self.assertRaises(subprocess.TimeoutExpired) as late:
                        found = vm(fake.path).channel("vm1").run(["true"], input=b"in", timeout=timeout)
                        await found if asyncio.iscoroutine(found) else found
                    self.assertEqual((late.exception.timeout, late.exception.stdout[:1]), (timeout, expected))
                    self.assertLess(time.monotonic() - begun, timeout + 8)
        for _ in range(2):
            start, stdin = heard[0][5:], heard[1]
            self.assertEqual((json.loads(start)["wait"], stdin), (True, struct.pack(">BI", 2, 2)))
            del heard[:2]

    async def test_others_are_told(self):
        with Fake(*[FULL] * 4) as fake:
            vm, other = Vproxy(fake.path).channel("vm1"), aio.Vproxy(fake.path).channel("vm1")
            for work in (lambda: vm.start(["true"]), lambda: vm.popen(["true"]).wait()):
                with self.assertRaises(Lost) as failed:
                    work()
                self.assertEqual(failed.exception.code, "too-many-streams")
            with self.assertRaises(Lost):
                await other.start(["true"])
            with self.assertRaises(Lost):
                async with await other.popen(["true"]) as process:
                    await process.stdout.read()


class Waiting(unittest.IsolatedAsyncioTestCase):
    async def test_for_a_process_that_restarts(self):
        answers = [b"", b'503 Gone\r\n\r\n{"error": {"code": "no-session", "message": "shutting down"}}', b"200 OK\r\n\r\n{}"]
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/late.sock"
            waiting = asyncio.ensure_future(aio.Vproxy(path).channel("vm1").wait(timeout=None))
            thread = threading.Thread(target=Vproxy(path).channel("vm1").wait)
            thread.start()
            await asyncio.sleep(0)
            with Fake(*answers[:2], *answers[:2], *[answers[2]] * 2, path=path):
                await waiting
                thread.join(60)
            self.assertFalse(thread.is_alive())
            with self.assertRaises(TimedOut) as failed:
                await aio.Vproxy(path).channel("vm1").wait(timeout=0.1)
            self.assertEqual(failed.exception.code, "control-unavailable")
            self.assertIsInstance(failed.exception.__cause__, Lost)

    async def test_refusals_are_not_waited_for(self):
        with Fake(b'404 None\r\n\r\n{"error": {"code": "not-found", "message": "no"}}') as fake:
            with self.assertRaises(VproxyError) as failed:
                Vproxy(fake.path).channel("vm1").wait()
            self.assertEqual(failed.exception.code, "not-found")


class Followed(unittest.IsolatedAsyncioTestCase):
    async def test_events_whose_process_goes(self):
        event = json.dumps({"time": "2030-01-01T00:00:00.000Z", "event": "e"}).encode()
        head = b"200 OK\r\n\r\n"
        for answer, follow in ((head + event + b"\n", True), (head + event + b"\n" + event[:9], False)):
            with Fake(answer, answer) as fake:
                found = []
                with self.assertRaises(Lost) as failed:
                    for each in Vproxy(fake.path).events(follow=follow):
                        found.append(each["event"])
                self.assertEqual((found, failed.exception.code), (["e"], "control-unavailable"))
                with self.assertRaises(Lost):
                    async for each in aio.Vproxy(fake.path).events(follow=follow):
                        found.append(each["event"])
                self.assertEqual(found, ["e", "e"])
        with Fake(head + event + b"\n") as fake:
            self.assertEqual(len(list(Vproxy(fake.path).events(follow=False))), 1)

    async def test_a_job_that_cannot_be_reached(self):
        begun = UPGRADED + record(22, {"from": 0}) + record(17, b"out")
        lost = []
        with Fake(begun, begun) as fake:
            # The process that answers why a stream ended has gone, too.
            process, other = Vproxy(fake.path), aio.Vproxy(fake.path)
            output = process.channel("vm1").attach("00000000", timeout=0.8, on_lost=lost.append)
            found = []
            with self.assertRaises(Lost):
                for piece in output:
                    found.append(piece)
                    fake.__exit__()
            self.assertEqual((found, output.position), ([b"out"], 3))
            self.assertTrue(all(isinstance(each, Lost) for each in lost))
            self.assertGreater(len(lost), 1)
            fake.path = process.path
        with self.assertRaises(Lost):  # at once, since there never was a job
            async for _ in other.channel("vm1").attach("00000000", on_lost=lost.append):
                pass

    async def test_a_writer_continues_with_its_size_after_a_loss(self):
        """It takes the input over only once. What was not sent is sent then, and the end again."""
        heard = []
        size = record(3, struct.pack(">HH", 100, 30))
        first = record(7, {"id": "00000000", "from": 0, "input": True, "steal": True}) + size + record(2, b"wo")
        second = record(7, {"id": "00000000", "from": 3, "input": True}) + size + record(2, b"rd") + record(5, b"\0")

        def serve(start, output, expected, end):
            def answer(connection):
                connection.sendall(record(22, {"from": start}) + record(19, struct.pack(">I", 2)) + output)
                heard.append(connection.recv(len(expected), socket.MSG_WAITALL))
                connection.sendall(end)

            return answer

        lost = []
        global ENDED
        before, ENDED = ENDED, b'200 OK\r\n\r\n{"error": {"code": "channel-silent", "message": "no"}}'
        try:
            with Fake(serve(0, record(17, b"out"), first, b""), serve(3, b"", second, exit_of(0))) as fake:
                output = Vproxy(fake.path).channel("vm1").attach("00000000", input=True, steal=True, on_lost=lost.append)
                output.resize(100, 30)
                output.write(b"word")
                output.close_input()
                self.assertEqual(b"".join(output), b"out")
        finally:
            ENDED = before
        self.assertEqual((heard, len(lost), output.unsent), ([first, second], 1, 0))

    async def test_a_job_that_takes_nothing_is_left_soon(self):
        """What it did not take is still unsent. What a signal handler raises then, or while a write waits, is passed on."""
        joined = record(22, {"from": 0}) + record(17, b"out")
        stays = threading.Event()
        self.addCleanup(stays.set)

        def no_room(connection):
            connection.sendall(joined + record(19, struct.pack(">I", 2)))
            stays.wait(60)

        def deaf(connection):
            connection.sendall(joined + record(19, struct.pack(">I", 1 << 30)))
            stays.wait(60)

        def late(*_signal):
            raise TimeoutError("mine")

        with Fake(no_room, no_room, deaf, no_room) as fake:
            with mock.patch("vproxy._core.LEAVE_S", 0.05):
                output = aio.Vproxy(fake.path).channel("vm1").attach("00000000", input=True)
                output.write(b"word")
                pieces = output.pieces()
                await pieces.__anext__()
                await pieces.aclose()
                self.assertEqual(output.unsent, 2)
                output = Vproxy(fake.path).channel("vm1").attach("00000000", input=True)
                output.write(b"word")
                next(iter(output))
                self.assertEqual(output.unsent, 2)
            self.addCleanup(signal.signal, signal.SIGALRM, signal.signal(signal.SIGALRM, late))
            for _ in range(2):
                output = Vproxy(fake.path).channel("vm1").attach("00000000", input=True)
                pieces = iter(output)
                next(pieces)
                with self.assertRaisesRegex(TimeoutError, "mine"):
                    signal.setitimer(signal.ITIMER_REAL, 0.05)
                    output.write(bytes(1 << 22))
                    pieces.close()

    async def test_a_job_behind_a_silent_channel(self):
        begun = UPGRADED + record(22, {"from": 0}) + record(17, b"out")
        late = b'504 Late\r\n\r\n{"error": {"code": "open-timeout", "message": "no"}}'
        reset = b'200 OK\r\n\r\n{"error": {"code": "channel-silent", "message": "no"}}'
        rest = UPGRADED + record(22, {"from": 3}) + record(17, b"put") + exit_of(0)
        global ENDED
        before, ENDED = ENDED, reset
        try:
            with Fake(begun, late, rest) as fake:
                lost = []
                output = aio.Vproxy(fake.path).channel("vm1").attach("00000000", on_lost=lost.append)
                self.assertEqual([piece async for piece in output], [b"out", b"put"])
                self.assertEqual([each.code for each in lost], ["exec-unavailable", "open-timeout"])
        finally:
            ENDED = before


class Copies(unittest.IsolatedAsyncioTestCase):
    async def test_long_lines_and_progress(self):
        with tempfile.TemporaryDirectory() as folder:
            program = f"{folder}/vproxy"
            with open(program, "w", encoding="ascii") as file:
                file.write("#!/bin/sh\necho '{\"bytes\": 1}'; printf '{\"path\": \"%0200000d\"}\\n' 0; echo why >&2; exit ${STATUS:-0}\n")
            os.chmod(program, 0o755)
            before, os.environ["VPROXY"] = os.environ.get("VPROXY"), program
            try:
                for status, last in ((0, {"bytes": 1, "path": "0" * 200_000}), (74, None)):
                    os.environ["STATUS"] = str(status)
                    for copy in (Vproxy("/x").channel("vm1").copy_to, aio.Vproxy("/x").channel("vm1").copy_to):
                        told = []
                        try:
                            found = copy("a", "/b", progress=told.append)
                            found = await found if asyncio.iscoroutine(found) else found
                        except VproxyError as error:
                            found = None
                            self.assertEqual((error.code, str(error)), ("copy-failed", "why"))
                        self.assertEqual((found, len(told)), (last, 2))

                        def fail(_told):
                            raise ConnectionError("mine")

                        with self.assertRaisesRegex(ConnectionError, "mine"):
                            found = copy("a", "/b", progress=fail)
                            await found if asyncio.iscoroutine(found) else found
                os.environ["VPROXY"] = f"{folder}/none"
                with self.assertRaises(VproxyError) as failed:
                    Vproxy("/x").channel("vm1").copy_to("a", "/b")
                self.assertIn("need the program", str(failed.exception))
            finally:
                os.environ.pop("STATUS")
                os.environ["VPROXY"] = before or "vproxy"

    async def test_a_timeout_whose_report_follows_late(self):
        leaves = threading.Event()

        def answer(connection):
            connection.sendall(STARTED + record(5, b"\1"))
            leaves.wait(20)
            told = {"status": None, "signal": "TERM", "timedOut": True, "durationMs": 1, "error": None}
            connection.sendall(record(18, bytes(1 << 16)) * 16 + record(5, b"\2") + record(20, told))

        with Fake(answer) as fake, mock.patch("vproxy._core.END_S", 0):
            with self.assertRaises(subprocess.TimeoutExpired):
                async with await aio.Vproxy(fake.path).channel("vm1").popen(["sleep", "9"], timeout=0.001) as process:
                    await process.stdout.read()
                    await asyncio.sleep(0.002)  # its timeout is over
                    asyncio.get_running_loop().call_soon(leaves.set)

    async def test_output_that_is_read_beside_the_end_of_the_block_is_whole_or_lost(self):
        def answer(connection):
            connection.sendall(STARTED + record(5, b"\2"))
            connection.sendall(record(17, bytes(1 << 16)) * 16 + record(5, b"\1") + exit_of(0))

        with Fake(answer) as fake:
            async with await aio.Vproxy(fake.path).channel("vm1").popen(["x"]) as process:
                reading = asyncio.create_task(process.stdout.read())
                await process.stderr.read()
            with self.assertRaises(Lost):
                self.assertEqual(len(await reading), 1 << 20)
                raise Lost("exec-unavailable", "it is whole")

    async def test_a_failure_beside_unread_output(self):
        """asyncio notices the end of a process only behind its output, of which it reads no more than twice 64 KiB ahead."""
        create = asyncio.create_subprocess_exec
        gc.disable()  # which would close what is forgotten
        self.addCleanup(gc.enable)

        def fail(_told):
            raise ConnectionError("mine")

        for last in ("exec sleep 60", "exit"):
            with tempfile.TemporaryDirectory() as folder:
                program = f"{folder}/vproxy"
                with open(program, "w", encoding="ascii") as file:
                    file.write(f"#!/bin/sh\necho '{{\"bytes\": 1}}'; printf '%0180000d' 0; touch {folder}/written; {last}\n")
                os.chmod(program, 0o755)

                async def create_late(*words, **options):
                    child = await create(*words, **options)
                    while not os.path.exists(f"{folder}/written") or last == "exit" and child.returncode is None:
                        await asyncio.sleep(0.01)
                    return child

                before = len(os.listdir("/proc/self/fd"))
                with mock.patch.dict(os.environ, VPROXY=program), mock.patch("asyncio.create_subprocess_exec", create_late):
                    with self.assertRaisesRegex(ConnectionError, "mine"):
                        await asyncio.wait_for(aio.Vproxy("/x").channel("vm1").copy_to("a", "/b", progress=fail), 20)
                for _ in range(10):  # turns in which asyncio closes its pipe
                    await asyncio.sleep(0)
                self.assertEqual(len(os.listdir("/proc/self/fd")), before)


if __name__ == "__main__":
    unittest.main()
