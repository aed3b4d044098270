"""What a program may pass by accident is refused before anything is sent: there is no process that could take it."""

import math
import os
import pathlib
import pickle
import subprocess
import unittest

import vproxy
from vproxy import CommandNotFound, Lost, Refused, TimedOut, Vproxy, VproxyError, aio
from vproxy import _core as core
from vproxy._errors import failure

NOWHERE = "/nonexistent/vproxy.sock"

#: Keyword arguments of a command that no machine can run, with the error.
BAD_COMMANDS = [
    ({"argv": "true"}, TypeError),
    ({"argv": b"true"}, TypeError),
    ({"argv": pathlib.Path("/bin/true")}, TypeError),
    ({"argv": None}, TypeError),
    ({"argv": ["echo", 1]}, TypeError),
    ({"argv": ["echo", None]}, TypeError),
    ({"argv": ["echo", "a\0b"]}, ValueError),
    ({"argv": ["echo", b"a\0b"]}, ValueError),
    ({"argv": ["rm", os.fsdecode(b"a\xff")]}, ValueError),
    ({"argv": ["rm", b"a\xff"]}, ValueError),
    ({"argv": ["rm", pathlib.Path(os.fsdecode(b"a\xff"))]}, ValueError),
    ({"argv": ["echo", "\ud800"]}, ValueError),
    ({"argv": ["echo", "x" * (1 << 20)]}, ValueError),
    ({"argv": ["echo"] * 70_000}, ValueError),
    ({"env": {"A=B": "1"}}, ValueError),
    ({"env": {"": "1"}}, ValueError),
    ({"env": {"A": 1}}, TypeError),
    ({"env": {"A": None}}, TypeError),
    ({"env": {1: "1"}}, TypeError),
    ({"env": {"A": "\udcff"}}, ValueError),
    ({"env": {"A": "\0"}}, ValueError),
    ({"env": [("A", "1")]}, AttributeError),
    ({"cwd": "/\0"}, ValueError),
    ({"cwd": 1}, TypeError),
    ({"cwd": b"/\xff"}, ValueError),
    ({"user": 0}, TypeError),
    ({"user": "a\0"}, ValueError),
    ({"timeout": "1"}, TypeError),
    ({"timeout": math.nan}, ValueError),
    ({"kill_after": -1}, ValueError),
    ({"kill_after": math.nan}, ValueError),
]

BAD_RUNS = [
    ({"argv": []}, ValueError),
    ({"stderr": 1}, ValueError),
    ({"encoding": "no-such"}, LookupError),
    ({"input": 5}, TypeError),
    ({"max_output": -1}, ValueError),
    ({"max_output": 1.5}, TypeError),
    ({"max_output": "1"}, TypeError),
    ({"max_output": math.inf}, TypeError),
]

BAD_TERMINALS = [
    ({"tty": (0, 0)}, ValueError),
    ({"tty": (80, 65_536)}, ValueError),
    ({"tty": (80, -1)}, ValueError),
    ({"tty": ("80", 24)}, TypeError),
    ({"tty": (80.5, 24)}, TypeError),
    ({"tty": (80,)}, ValueError),
    ({"timeout": -1}, ValueError),
    ({"timeout": 1e9}, ValueError),
]

BAD_JOBS = [
    ({"argv": []}, ValueError),
    ({"timeout": 1e9}, ValueError),
    ({"keep": -1}, ValueError),
    ({"keep": (16 << 20) + 1}, ValueError),
    ({"keep": 1.5}, TypeError),
    ({"tag": "x" * 100}, ValueError),
    ({"tag": "ü" * 33}, ValueError),
    ({"tag": "\udcff"}, ValueError),
    ({"tag": 1}, TypeError),
    ({"tag": b"x" * 100}, ValueError),
    ({"tag": pathlib.Path("x" * 100)}, ValueError),
]


class Arguments(unittest.IsolatedAsyncioTestCase):
    def setUp(self):
        self.vm = Vproxy(NOWHERE).channel("vm1")
        self.others = aio.Vproxy(NOWHERE).channel("vm1")

    async def refuse(self, method, cases):
        for given, kind in cases:
            with self.subTest(method=method, **{name: repr(value)[:40] for name, value in given.items()}):
                given = {"argv": ["true"], **given}
                with self.assertRaises(kind) as failed:
                    getattr(self.vm, method)(**given)
                self.assertNotIsInstance(failed.exception, VproxyError)
                with self.assertRaises(kind) as failed:
                    await getattr(self.others, method)(**given)
                self.assertNotIsInstance(failed.exception, VproxyError)

    async def test_commands(self):
        await self.refuse("run", BAD_COMMANDS + BAD_RUNS)
        await self.refuse("popen", BAD_COMMANDS + BAD_TERMINALS)
        await self.refuse("start", BAD_COMMANDS + BAD_JOBS)

    async def test_good_commands_are_sent(self):
        for given in ({}, {"argv": [b"ls", pathlib.Path("/tmp")], "cwd": b"/tmp", "env": {b"A": pathlib.Path("/b")}}):
            for method in ("run", "popen", "start"):
                with self.assertRaises(Lost):
                    getattr(self.vm, method)(**{"argv": ["true"], "timeout": math.inf, **given})

    async def test_good_requests_are_sent(self):
        for work in (
            lambda vm: vm.start(["true"], tag=b"bytes"),
            lambda vm: vm.stop_job(b"00000000"),
            lambda vm: vm.connect("echo", timeout=math.inf),
            lambda vm: vm.process.ask("GET", "/v1/status", timeout=1e20),
            lambda vm: vm.run(["true"], timeout=1e20),
        ):
            with self.assertRaises(Lost):
                work(self.vm)
            with self.assertRaises(Lost):
                await work(self.others)

    async def test_paths_of_sockets(self):
        for kind in (Vproxy, aio.Vproxy):
            self.assertEqual(kind(pathlib.Path(NOWHERE)).path, NOWHERE)
            for path, error in ((5, TypeError), ("/run/vproxy.sock\0", ValueError)):
                with self.assertRaises(error):
                    kind(path)

    async def test_no_time_is_left(self):
        for timeout in (0, -1):
            with self.assertRaises(subprocess.TimeoutExpired):
                self.vm.run(["true"], timeout=timeout)
            with self.assertRaises(subprocess.TimeoutExpired):
                await self.others.run(["true"], timeout=timeout)

    async def test_jobs(self):
        for work, kind in (
            (lambda vm: vm.attach(None), TypeError),
            (lambda vm: vm.attach("0" * 5000), ValueError),
            (lambda vm: vm.attach("00000000", -1), ValueError),
            (lambda vm: vm.attach("00000000", tail=-1), ValueError),
            (lambda vm: vm.attach("00000000", tail="1"), TypeError),
            (lambda vm: vm.attach("00000000", timeout=math.nan), ValueError),
            (lambda vm: vm.stop_job(None), TypeError),
            (lambda vm: vm.stop_job("\udcff"), ValueError),
            (lambda vm: vm.stop_job("00000000", kill_after=-1), ValueError),
            (lambda vm: vm.connect(None), TypeError),
            (lambda vm: vm.connect("\udcff"), ValueError),
            (lambda vm: vm.copy_to("a\udcff", "/tmp"), ValueError),
            (lambda vm: vm.copy_to(["a", 1], "/tmp"), TypeError),
            (lambda vm: vm.copy_from(b"/a\xff", "/tmp"), ValueError),
            (lambda vm: vm.copy_from("/a", None), TypeError),
            (lambda vm: vm.egress_allow("\udcff", "a:1"), ValueError),
            (lambda vm: vm.egress_allow("internet", "a:1", seconds=math.nan), ValueError),
        ):
            with self.assertRaises(kind) as failed:
                work(self.vm)
            self.assertNotIsInstance(failed.exception, VproxyError)
            with self.assertRaises(kind) as failed:
                found = work(self.others)
                if not isinstance(found, aio.JobOutput):
                    await found
            self.assertNotIsInstance(failed.exception, VproxyError)

    def test_sizes_and_signals(self):
        state = core.ExecCall()
        self.assertEqual([state.resize(*size) for size in ((0, 0), (0, 24), (80, -1))], [b""] * 3)
        self.assertEqual(state.resize(65_535, 1), b"\3\0\0\0\4\xff\xff\0\1")
        for work, kind in (
            (lambda: state.resize(65_536, 0), ValueError),
            (lambda: state.resize(80.5, 24), TypeError),
            (lambda: state.resize(None, 24), TypeError),
            (lambda: state.signal(0), ValueError),
            (lambda: state.signal(34), ValueError),
            (lambda: state.signal("SIGINT"), TypeError),
        ):
            with self.assertRaises(kind):
                work()

    def test_copy_paths(self):
        paths = [pathlib.Path("-a"), b"b:c", "./d:e", "/f:g", "h"]
        words = core.copy_command("to", paths, b"/x", "vm1", resume=False, progress=False)
        self.assertEqual(words[2:], ["--json", "--discard", "./-a", "./b:c", "./d:e", "/f:g", "h", "vm1:/x"])


class Errors(unittest.TestCase):
    def test_they_are_errors_of_the_language_too(self):
        for code, kinds in (
            ("stalled", (TimedOut, TimeoutError)),
            ("no-session", (Lost, ConnectionError)),
            ("too-many-streams", (Lost, ConnectionError)),
            ("command-not-found", (CommandNotFound, Refused, FileNotFoundError)),
            ("denied", (Refused,)),
            ("newer", (VproxyError,)),
        ):
            error = pickle.loads(pickle.dumps(failure(code, "why")))
            self.assertEqual((error.code, str(error), type(error)), (code, "why", kinds[0]))
            self.assertTrue(all(isinstance(error, kind) for kind in kinds))

    def test_codes(self):
        """Each code that may be tried again is Lost or TimedOut, unless a machine must change first."""
        codes = dict(line.split("=") for line in os.environ.get("ERROR_CODES", "").split())
        exempt = {"cancelled", "flood", "flow-control", "internal", "local-error", "protocol-error", "upgrade-failed"}
        changed = {"auth-failed", "connect-refused", "unknown-service", "version-mismatch"}
        for code, retry in codes.items():
            kind = type(failure(code, ""))
            if retry == "true" and code not in exempt | changed:
                self.assertIn(kind, (Lost, TimedOut), code)
            elif code in changed:
                self.assertIs(kind, Refused, code)
            else:
                self.assertNotIn(kind, (Lost, TimedOut), code)

    def test_all_is_exported(self):
        self.assertTrue(all(hasattr(vproxy, name) for name in vproxy.__all__))


if __name__ == "__main__":
    unittest.main()
