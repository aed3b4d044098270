"""Against a running pair, whose host has the control socket in $VPROXY_SOCKET: the guest allows commands and copies."""

import asyncio
import contextlib
import gc
import hashlib
import math
import os
import pathlib
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import warnings
from unittest import mock

from vproxy import CommandNotFound, Lost, OutputLimitExceeded, Refused, TimedOut, Vproxy, VproxyError, aio, types
from vproxy.storage import StorageCall, StorageEmulator, StorageReply

BIG = os.urandom(1 << 20) * 16

#: How much the tests of large input and output move.
MEBIBYTES = int(os.environ.get("MEBIBYTES", "64"))

#: How many commands run in turn, and at a time.
RUNS, AT_A_TIME = int(os.environ.get("RUNS", "1000")), int(os.environ.get("AT_A_TIME", "500"))


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def is_running(pid):
    """Whether a process of this machine, which the guest shares, runs."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().split(") ")[-1][0] != "Z"
    except OSError:
        return False


def eventually(condition):
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


@contextlib.contextmanager
def warnings_as_errors():
    """Yields those that were raised where nobody can catch them."""
    errors, hook = [], sys.unraisablehook
    sys.unraisablehook = lambda found: errors.append(found.exc_value)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield errors
    finally:
        sys.unraisablehook = hook


@contextlib.contextmanager
def forked(work=lambda: None):
    """A process that does ``work``, and stays until the end of the block."""
    stay, end = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # since Python 3.12: of a fork beside threads
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(end)
            work()
            os.read(stay, 1)
            status = 0
        finally:
            os._exit(status)
    os.close(stay)
    try:
        yield
    finally:
        os.close(end)
        if os.waitpid(pid, 0)[1] != 0:
            raise AssertionError("the forked process failed")


class Commands(unittest.TestCase):
    def setUp(self):
        self.vm = Vproxy().channel()

    def test_run_as_subprocess(self):
        for script, given in (("cat; echo error >&2; exit 3", b"in"), ("kill -9 $$", b""), ("exit 255", b"")):
            words = ["sh", "-c", script]
            there, here = self.vm.run(words, input=given), subprocess.run(words, input=given, capture_output=True)
            self.assertEqual(
                (there.args, there.returncode, there.stdout, there.stderr), (here.args, here.returncode, here.stdout, here.stderr)
            )
        self.assertEqual(self.vm.run(["echo", "ü"], text=True, check=True).stdout, "ü\n")
        with self.assertRaises(subprocess.CalledProcessError):
            self.vm.run(["false"], check=True)
        with self.assertRaises(subprocess.TimeoutExpired) as late:
            self.vm.run(["sh", "-c", "echo begun; exec sleep 100"], timeout=1)
        self.assertEqual(late.exception.stdout, b"begun\n")

    def test_where_and_as_whom(self):
        done = self.vm.run(["sh", "-c", "pwd; echo $COLOUR"], cwd="/tmp", env={"COLOUR": "red"}, text=True)
        self.assertEqual(done.stdout, "/tmp\nred\n")

    def test_defaults_of_a_channel(self):
        words = ["sh", "-c", "pwd; echo $COLOUR $SIZE"]
        vm = Vproxy().channel(env={"COLOUR": "red", "SIZE": "1"}, cwd="/tmp")
        self.assertEqual(vm.run(words, text=True).stdout, "/tmp\nred 1\n")
        self.assertEqual(vm.run(words, env={"SIZE": "2"}, cwd="/", text=True).stdout, "/\nred 2\n")
        with vm.popen(words, text=True) as process:
            self.assertEqual(process.communicate()[0], "/tmp\nred 1\n")
        self.assertEqual(b"".join(vm.attach(vm.start(words))), b"/tmp\nred 1\n")
        self.assertEqual(self.vm.run(words, cwd="/", text=True).stdout, "/\n\n")
        user = self.vm.run(["id", "-un"], text=True).stdout.strip()
        self.assertEqual(Vproxy().channel(user=user).run(["id", "-un"], text=True).stdout.strip(), user)
        with self.assertRaises(Refused):
            Vproxy().channel(user="no-such-user").run(["true"])
        for wrong, kind in (({"env": {"A=B": "c"}}, ValueError), ({"cwd": 1}, TypeError), ({"user": "a\0"}, ValueError)):
            with self.assertRaises(kind):
                Vproxy().channel(**wrong)

    def test_failures_have_kinds(self):
        for work, kind, code in (
            (lambda: self.vm.run(["no-such-program"]), Refused, "command-not-found"),
            (lambda: Vproxy().channel("none").run(["true"]), Refused, "not-found"),
            (lambda: self.vm.connect("none"), Refused, "unknown-service"),
            (lambda: Vproxy("/none.sock").status(), Lost, "control-unavailable"),
            (lambda: self.vm.wait("none", timeout=0.1), TimedOut, "no-session"),
        ):
            with self.assertRaises(kind) as failed:
                work()
            self.assertEqual(failed.exception.code, code)

    def test_large_input_and_output(self):
        hashed = hashlib.sha256(BIG).hexdigest()
        self.assertEqual(self.vm.run(["sha256sum"], input=BIG, text=True, encoding="ascii").stdout, f"{hashed}  -\n")
        self.assertEqual(self.vm.run(["cat"], input=BIG).stdout, BIG)
        self.assertEqual(self.vm.run(["true"], input=bytes(MEBIBYTES << 20)).returncode, 0)
        done = self.vm.run(["true"])
        self.assertLess(done.cpu_seconds, 5)
        large = self.vm.run(["sh", "-c", "head -c 300000000 /dev/zero | tail -c 290000000 | cksum; :"])
        self.assertGreater(large.peak_bytes, 290000000)

    def test_large_output_of_popen(self):
        script = f"dd if=/dev/zero bs=1048576 count={MEBIBYTES} status=none"
        with self.vm.popen(["sh", "-c", script]) as there, subprocess.Popen(script, shell=True, stdout=-1) as here:
            hashes = [hashlib.sha256(), hashlib.sha256()]
            for process, hashed in zip((there, here), hashes):
                for piece in iter(lambda: process.stdout.read(1 << 20), b""):
                    hashed.update(piece)
        self.assertEqual(hashes[0].digest(), hashes[1].digest())

    def test_popen(self):
        with self.vm.popen(["cat"]) as process:
            process.stdin.write(b"one")
            self.assertEqual(process.stdout.read(3), b"one")
            self.assertIsNone(process.poll())
            process.stdin.close()
            self.assertEqual(process.wait(), 0)
        with self.vm.popen(["sh", "-c", "stty size; read line; stty size"], tty=(100, 30)) as process:
            self.assertEqual(process.stdout.readline(), b"30 100\r\n")
            process.resize(90, 20)
            process.stdin.write(b"\n")
            self.assertEqual(process.stdout.read(), b"\r\n20 90\r\n")
        process = self.vm.popen(["sleep", "1000"])
        process.terminate()
        self.assertEqual(process.wait(), -15)
        process = self.vm.popen(["sleep", "0.5"])
        buffer = bytearray(BIG)
        with self.assertRaises(BrokenPipeError):
            try:
                while True:
                    process.stdin.write(buffer)
            except BrokenPipeError:
                buffer.clear()  # refused while anything has a view of it
                raise
        self.assertEqual(process.wait(), 0)

    def test_input_is_written_whole_beside_signals(self):
        before = signal.signal(signal.SIGALRM, lambda *_: None)
        try:
            with self.vm.popen(["sh", "-c", "sleep 0.3; exec wc -c"], stderr=subprocess.STDOUT) as process:
                signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
                self.assertEqual(process.stdin.write(BIG), len(BIG))
                self.assertEqual(process.communicate(), (b"%d\n" % len(BIG), None))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def test_words_that_subprocess_takes(self):
        for words in (["ls", pathlib.Path("/etc/passwd")], [b"ls", b"/etc/passwd"]):
            given = {"cwd": pathlib.Path("/"), "text": True}
            self.assertEqual(self.vm.run(words, **given).stdout, subprocess.run(words, capture_output=True, **given).stdout)
        done = self.vm.run(["sh", "-c", "echo $A"], env={b"A": pathlib.Path("/b")}, stderr=subprocess.STDOUT)
        self.assertEqual((done.stdout, done.stderr), (b"/b\n", None))

    def test_text_as_subprocess(self):
        script = r"printf 'a\r\nb\377'; printf 'error' >&2; cat"
        for given in (
            {"text": True, "errors": "replace", "input": "ü"},
            {"encoding": "latin-1", "input": "ü"},
            {"errors": "ignore", "input": ""},
            {"input": b"\xff"},
        ):
            there = self.vm.run(["sh", "-c", script], **given)
            here = subprocess.run(["sh", "-c", script], capture_output=True, **given)
            self.assertEqual((there.stdout, there.stderr), (here.stdout, here.stderr))
            words = {key: value for key, value in given.items() if key != "input"}
            with self.vm.popen(["sh", "-c", script], **words) as process:
                self.assertEqual(process.communicate(given["input"]), (here.stdout, here.stderr))
        with self.assertRaises(UnicodeDecodeError):
            self.vm.run(["printf", r"\377"], text=True)
        with self.vm.popen(["cat"], text=True) as process:
            process.stdin.write("one\n")
            self.assertEqual(process.stdout.readline(), "one\n")
            process.stdin.close()

    def test_both_outputs_as_one(self):
        script = "for i in 1 2 3; do echo out; sleep 0.3; echo error >&2; sleep 0.3; done"
        expected = b"out\nerror\n" * 3
        self.assertEqual(self.vm.run(["sh", "-c", script], stderr=subprocess.STDOUT).stdout, expected)
        with self.vm.popen(["sh", "-c", script], stderr=subprocess.STDOUT) as process:
            self.assertIsNone(process.stderr)
            self.assertEqual(process.stdout.read(), expected)
        # Each may end before the other.
        with self.vm.popen(["sh", "-c", "exec >&-; echo error >&2"], stderr=subprocess.STDOUT) as process:
            self.assertEqual(process.communicate(), (b"error\n", None))

    def test_communicate(self):
        with self.vm.popen(["sh", "-c", "cat; echo error >&2; exec sleep 1"]) as process:
            with self.assertRaises(subprocess.TimeoutExpired) as late:
                process.communicate(BIG, timeout=0.001)
            self.assertTrue(BIG.startswith(late.exception.output or b""))
            self.assertEqual(process.communicate(timeout=1e7), (BIG, b"error\n"))
            self.assertEqual(process.returncode, 0)
        with self.vm.popen(["true"]) as process:
            self.assertEqual(process.communicate(BIG), (b"", b""))
        with self.vm.popen(["no-such-program"]) as process, self.assertRaises(CommandNotFound):
            process.communicate()

    def test_communicate_may_be_called_again_after_wrong_input(self):
        with self.vm.popen(["cat"], text=True) as process:
            for wrong, kind in ((5, TypeError), ("\udcff", ValueError)):
                with self.assertRaises(kind):
                    process.communicate(wrong)
            self.assertEqual(process.communicate("in", timeout=math.inf), ("in", ""))
            self.assertEqual(process.wait(math.inf), 0)

    def test_communicate_returns_the_lines_that_were_not_read(self):
        with self.vm.popen(["sh", "-c", "printf 'ü\\nö\\na'; sleep 0.1; read line; printf b"], text=True) as process:
            self.assertEqual((process.stdout.readline(), process.communicate("\n")), ("ü\n", ("ö\nab", "")))

    def test_threads_that_communicate_at_once_end(self):
        with self.vm.popen(["sh", "-c", "sleep 0.3; echo out"]) as process:
            def work():
                with contextlib.suppress(OSError, ValueError):
                    process.communicate()

            threads = [threading.Thread(target=work, daemon=True) for _ in range(8)]
            for thread in threads:
                thread.start()
            self.assertTrue(eventually(lambda: not any(thread.is_alive() for thread in threads)))

    def test_a_forked_process_ends_no_command(self):
        process = self.vm.popen(["sh", "-c", "read line; echo $line; exit 7"])

        def work():
            with contextlib.suppress(KeyError), process:
                raise KeyError
            with self.assertRaises(Lost):
                process.wait()
            warnings.simplefilter("error")
            process.__del__()

        with forked(work):
            pass
        self.assertEqual((process.communicate(b"line\n"), process.returncode), ((b"line\n", b""), 7))

    def test_a_forked_process_keeps_no_output_open(self):
        with self.vm.popen(["sh", "-c", "read line; echo out"]) as process, forked():
            self.assertEqual(process.communicate(b"\n", timeout=30), (b"out\n", b""))

    def test_a_process_forked_while_a_command_starts_keeps_no_output_open(self):
        create, leave, threads = os.pipe, threading.Event(), []

        def fork():
            with forked():
                leave.wait()

        def create_and_fork():
            pair = create()
            if not threads:
                threads.append(threading.Thread(target=fork))
                threads[0].start()
                threads[0].join(0.3)  # it may have to wait until the command has started
            return pair

        try:
            with mock.patch("os.pipe", create_and_fork), self.vm.popen(["echo", "out"]) as process:
                self.assertEqual(process.communicate(timeout=10), (b"out\n", b""))
        finally:
            leave.set()
            threads[0].join()

    def test_a_forked_process_keeps_no_command(self):
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            os.mkfifo(f"{folder}/go")
            script = f"echo $$ >{folder}/new; mv {folder}/new {folder}/pid; read line <{folder}/go; exec yes"
            failures = []

            def work():
                try:
                    self.vm.run(["sh", "-c", script], max_output=1000)
                except OutputLimitExceeded as error:
                    failures.append(error)

            thread = threading.Thread(target=work)
            thread.start()
            self.assertTrue(eventually(lambda: os.path.exists(f"{folder}/pid")))
            stack.enter_context(forked())
            pathlib.Path(f"{folder}/go").write_text("\n", encoding="ascii")
            thread.join()
            self.assertEqual(len(failures), 1)
            pid = int(pathlib.Path(f"{folder}/pid").read_text(encoding="ascii"))
            self.assertTrue(eventually(lambda: not is_running(pid)))

    def test_kill_after(self):
        script = "trap '' TERM; echo begun; while :; do sleep 0.1; done"
        begun = time.monotonic()
        with self.assertRaises(subprocess.TimeoutExpired):
            self.vm.run(["sh", "-c", script], timeout=0.5, kill_after=0.2)
        self.assertLess(time.monotonic() - begun, 5)

    def test_a_limit_of_output(self):
        self.assertEqual(self.vm.run(["echo", "123"], max_output=4).stdout, b"123\n")
        with self.assertRaises(OutputLimitExceeded) as failed:
            self.vm.run(["sh", "-c", "echo $$; exec yes"], max_output=100_000)
        self.assertEqual(len(failed.exception.stdout) + len(failed.exception.stderr), 100_000)
        pid = int(failed.exception.stdout.split()[0])
        self.assertTrue(eventually(lambda: not is_running(pid)))

    def test_a_forgotten_command_warns_and_is_ended(self):
        gc.collect()
        before, threads = descriptors(), threading.active_count()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            process = self.vm.popen(["sh", "-c", "echo $$; exec sleep 1000"])
            output = process.stdout
            del process
            gc.collect()
            pid = int(output.readline())
            self.assertTrue(is_running(pid))
            del output
            gc.collect()
        self.assertTrue(any("forgotten" in str(each.message) and each.category is ResourceWarning for each in caught))
        self.assertTrue(eventually(lambda: not is_running(pid)))
        self.assertTrue(eventually(lambda: descriptors() <= before and threading.active_count() <= threads))

    def test_a_forgotten_command_is_ended_where_warnings_are_errors(self):
        with warnings_as_errors() as errors:
            process = self.vm.popen(["sh", "-c", "echo $$; exec sleep 1000"])
            pid = int(process.stdout.readline())
            del process
            gc.collect()
        self.assertTrue(any("forgotten" in str(error) for error in errors))
        self.assertTrue(eventually(lambda: not is_running(pid)))

    def test_a_reader_that_leaves_is_noticed(self):
        process = self.vm.popen(["yes"])
        process.stdout.read(10)
        process.stdout.close()
        self.assertEqual(process.wait(20), -13)

    def test_many_at_once(self):
        self.vm.run(["true"])
        before, statuses, left = descriptors(), [], list(range(RUNS))

        def work():
            while True:
                try:
                    left.pop()
                except IndexError:
                    return
                statuses.append(self.vm.run(["true"]).returncode)

        threads = [threading.Thread(target=work) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(statuses, [0] * RUNS)
        self.assertLessEqual(descriptors(), before)

    def test_no_descriptors_are_left_of_commands_that_are_waited_for(self):
        def work():
            with self.vm.popen(["sh", "-c", "echo out; exit 3"]) as process:
                return process.stdout.read(), process.wait()

        work()
        before, threads = descriptors(), threading.active_count()
        self.assertEqual([work() for _ in range(10)], [(b"out\n", 3)] * 10)
        self.assertTrue(eventually(lambda: descriptors() <= before and threading.active_count() <= threads))

    def test_a_block_that_fails_ends_its_command(self):
        with self.assertRaises(KeyError), self.vm.popen(["sh", "-c", "echo $$; exec sleep 1000"]) as process:
            pid = int(process.stdout.readline())
            raise KeyError
        self.assertTrue(eventually(lambda: not is_running(pid)))

    def test_a_caller_that_is_killed_ends_its_command(self):
        start = "Vproxy().channel().popen(['sh', '-c', 'echo $$; exec sleep 1000'])"
        program = f"from vproxy import *; p = {start}; print(p.stdout.readline().decode(), flush=True); p.wait()"
        with subprocess.Popen([sys.executable, "-c", program], stdin=-1, stdout=-1) as caller:
            pid = int(caller.stdout.readline())
            self.assertTrue(is_running(pid))
            caller.kill()
        self.assertTrue(eventually(lambda: not is_running(pid)))


class Jobs(unittest.TestCase):
    def test_a_job_outlives_its_caller_and_is_read(self):
        vm = Vproxy().channel()
        job = vm.start(["sh", "-c", "seq 100000; exit 3"], tag="numbers")
        expected = "".join(f"{number}\n" for number in range(1, 100_001)).encode()
        for start in (0, 70_000):
            output = vm.attach(job, start)
            self.assertEqual(b"".join(output), expected[start:])
            self.assertEqual((output.end.returncode, output.position, output.dropped), (3, len(expected), 0))
        self.assertEqual(b"".join(vm.attach(job, tail=7)), b"100000\n")
        [told] = [each for each in vm.jobs() if each["id"] == job]
        self.assertEqual(told.keys(), types.Job.__annotations__.keys())
        self.assertEqual((told["tag"], told["status"], told["bytes"]), ("numbers", 3, len(expected)))

    def test_what_is_no_longer_kept_is_counted(self):
        vm = Vproxy().channel()
        job = vm.start(["seq", "100000"], keep=1000)
        output = vm.attach(job)
        rest = b"".join(output)
        self.assertEqual(output.dropped + len(rest), output.position)
        self.assertEqual(rest[-1000:], b"".join(vm.attach(job, tail=1000)))

    def test_a_job_is_stopped(self):
        vm = Vproxy().channel()
        job = vm.start(["sleep", "1000"])
        self.assertEqual((vm.stop_job(job), vm.stop_job(job)), (-15, -15))
        job = vm.start(["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"])
        self.assertEqual(next(iter(vm.attach(job))), b"ready\n")
        self.assertEqual(vm.stop_job(job, kill_after=0.1), -9)
        with self.assertRaises(Refused) as failed:
            vm.stop_job("00000000")
        self.assertEqual(failed.exception.code, "not-found")
        with self.assertRaises(Refused):
            list(vm.attach("00000000"))
        with self.assertRaises(Refused) as failed:
            vm.start(["/nonexistent"])
        self.assertEqual(failed.exception.code, "command-not-found")

    def test_a_terminal_is_kept(self):
        vm = Vproxy().channel()
        script = "stty -echo; echo ready; while read line; do test $line = size && stty size || echo got $line; done; exit 3"
        job = vm.start(["sh", "-c", script], tty=True, tag="kept", unique=True)
        with self.assertRaisesRegex(Refused, f"^job {job} ") as failed:
            vm.start(["cat"], tag="kept", unique=True)
        self.assertEqual(failed.exception.code, "job-exists")
        output = vm.attach(job, input=True)
        output.resize(100, 30)
        found = b""
        for piece in output:
            found += piece
            if found == b"ready\r\n":
                output.write(b"one\nsize\n")
            if found.endswith(b"30 100\r\n"):
                break
        self.assertEqual(found, b"ready\r\ngot one\r\n30 100\r\n")
        self.assertTrue(eventually(lambda: not vm.jobs()[-1]["hasWriter"]))
        output = vm.attach(job, output.position, input=True)
        output.write(b"two\n")
        pieces = iter(output)
        self.assertEqual(next(pieces)[:3], b"got")
        with self.assertRaises(Refused) as failed:
            list(vm.attach(job, input=True))
        self.assertEqual(failed.exception.code, "input-taken")
        other = vm.attach(job, input=True, steal=True)
        threading.Timer(0, lambda: (other.write(b"three\n"), other.close_input())).start()
        self.assertEqual(b"".join(other)[-20:], b"got two\r\ngot three\r\n")
        self.assertEqual(other.end.returncode, 3)
        with self.assertRaises(Refused):
            list(pieces)
        with self.assertRaises(BrokenPipeError):
            other.write(b"x")
        with self.assertRaises(OSError):
            vm.attach(job).write(b"x")
        with self.assertRaises(Refused):
            list(vm.attach(vm.start(["sleep", "1000"]), input=True))

    def test_much_input_of_a_job(self):
        async def main():
            vm = aio.Vproxy().channel()
            job = await vm.start(["sha256sum"], input=True)
            output = vm.attach(job, input=True)
            output.write(BIG)
            output.close_input()
            self.assertEqual(output.unsent, len(BIG))
            self.assertEqual(b"".join([piece async for piece in output])[:64].decode(), hashlib.sha256(BIG).hexdigest())
            output = vm.attach(await vm.start(["sh", "-c", "echo; cat"], input=True), input=True)
            async for _ in output:
                output.send_signal(signal.SIGTERM)
            self.assertEqual((output.end.returncode, output.unsent), (-15, 0))

        asyncio.run(main())

    def test_a_job_that_is_left_gets_what_was_written(self):
        """All of it, whether a loop is left, closed or cancelled; then another may write."""

        async def leave(job, output, how):
            pieces = output.pieces()
            await pieces.__anext__()
            if how == "close":
                await pieces.aclose()
            elif how == "forget":
                del pieces
                await asyncio.sleep(0)  # and asyncio.run cancels it
            else:
                reading = asyncio.ensure_future(pieces.__anext__())
                await asyncio.sleep(0)
                reading.cancel()
                await asyncio.wait({reading})

        for how in ("break", "close", "forget", "cancel"):
            job = Vproxy().channel().start(["sh", "-c", "echo; exec sha256sum"], input=True)
            output = (Vproxy() if how == "break" else aio.Vproxy()).channel().attach(job, input=True)
            output.write(BIG[: 1 << 21])
            if how == "break":
                next(iter(output))
            else:
                asyncio.run(leave(job, output, how))
            last = Vproxy().channel().attach(job, 1, input=True)
            last.close_input()
            self.assertEqual(b"".join(last)[:64].decode(), hashlib.sha256(BIG[: 1 << 21]).hexdigest(), how)

    def test_an_interrupted_write_is_lost_and_nothing_else(self):
        def interrupted(connection, data):
            connection.socket.sendall(data[:5])
            raise KeyboardInterrupt

        vm, lost = Vproxy().channel(), []
        output = vm.attach(vm.start(["cat"], input=True), input=True, on_lost=lost.append)
        output.write(b"one\n")
        pieces = iter(output)
        self.assertEqual(next(pieces), b"one\n")
        with mock.patch("vproxy._sync._Connection.write", interrupted), self.assertRaises(KeyboardInterrupt):
            output.write(b"two\n")
        output.write(b"three\n")
        output.close_input()
        self.assertEqual(b"".join(pieces), b"three\n")
        self.assertIn("interrupted", str(*lost))

    def test_a_write_that_waits_does_not_keep_the_reader(self):
        waits = threading.Event()

        def full(connection, data):
            waits.set()
            connection.socket.recv(1, socket.MSG_PEEK)  # the end of the connection is all that can come

        output = Vproxy().channel()
        output = output.attach(output.start(["sh", "-c", "echo; exec sleep 1000"], input=True), input=True)
        pieces = iter(output)
        next(pieces)
        with mock.patch("vproxy._sync._Connection.write", full), mock.patch("vproxy._core.LEAVE_S", 0.05):
            writing, leaving = threading.Thread(target=output.write, args=(b"x",)), threading.Thread(target=pieces.close)
            for thread in (writing, leaving):
                thread.daemon = True
            writing.start()
            waits.wait()
            leaving.start()
            leaving.join(10)
            self.assertFalse(leaving.is_alive())
            writing.join(10)

    def test_a_peer_that_ends_a_reader_without_a_result_is_not_asked_again(self):
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as server:
            server.bind(f"{folder}/fake.sock")
            server.listen()
            answers = [b"101 Upgrade\r\nVproxy-End: /v1/connect/1\r\n\r\n", b'200 OK\r\n\r\n{"error": null}']

            def serve():
                for answer in answers:
                    with server.accept()[0] as connection:
                        while b"\r\n\r\n" not in connection.recv(4096):
                            pass
                        connection.sendall(b"HTTP/1.1 " + answer)
                        connection.shutdown(socket.SHUT_WR)
                        connection.recv(4096)

            thread = threading.Thread(target=serve)
            thread.start()
            with self.assertRaises(Lost) as failed:
                list(Vproxy(f"{folder}/fake.sock").channel("vm1").attach("00000000"))
            thread.join()
            self.assertEqual(failed.exception.code, "exec-unavailable")

    def test_asyncio(self):
        async def main():
            vm = aio.Vproxy().channel()
            job = await vm.start(["sh", "-c", "echo begun; sleep 1000"])
            output = vm.attach(job)
            async for piece in output:
                self.assertEqual(piece, b"begun\n")
                await vm.stop_job(job)
            return output.end.returncode

        self.assertEqual(asyncio.run(main()), -15)


class Machines(unittest.TestCase):
    def setUp(self):
        self.process = Vproxy()
        self.vm = self.process.channel()

    def test_facts_and_events(self):
        self.assertIn("exec", [row["service"] for row in self.vm.services()])
        self.assertTrue(self.vm.info()["hostName"])
        self.assertEqual((self.vm.ports(), self.process.status()["process"]["pid"]), ([], int(os.environ["HOST_PID"])))
        self.vm.wait("exec", timeout=10)
        self.vm.run(["true"])
        self.assertIn("stream-opened", [event["event"] for event in self.process.events(since="1m", follow=False)])
        self.assertEqual(list(self.process.events(since=0, follow=False)), [])

    def test_copies(self):
        with tempfile.TemporaryDirectory() as folder:
            with open(f"{folder}/sent", "wb") as file:
                file.write(BIG)
            told = []
            self.vm.copy_to(f"{folder}/sent", f"{folder}/there", progress=told.append)
            self.assertEqual([each["bytes"] for each in told[-2:]], [len(BIG)] * 2)
            self.assertEqual((told[-2]["totalBytes"], told[-1]["targets"]), (len(BIG), [f"{folder}/there"]))
            self.vm.copy_from(f"{folder}/there", f"{folder}/back")
            with open(f"{folder}/back", "rb") as file:
                self.assertEqual(file.read(), BIG)
            with self.assertRaises(VproxyError) as failed:
                self.vm.copy_from(f"{folder}/none", f"{folder}/back")
            self.assertEqual(failed.exception.code, "copy-failed")

    def test_a_cancelled_copy_leaves_nothing(self):
        with tempfile.TemporaryDirectory() as folder:
            with open(f"{folder}/sent", "wb") as file:
                file.truncate(1 << 31)
            os.mkdir(f"{folder}/there")

            def cancel(told):
                if told["bytes"] > 0:
                    raise KeyboardInterrupt

            for resume, left in ((False, []), (True, [".sent.vproxy-part"])):
                with self.assertRaises(KeyboardInterrupt):
                    self.vm.copy_to(f"{folder}/sent", f"{folder}/there/", progress=cancel, resume=resume)
                self.assertEqual(os.listdir(f"{folder}/there"), left)

    def test_egress(self):
        told = self.vm.egress_allow("internet", "pypi.org:443", "*.pypi.org:443", seconds=60)
        self.assertEqual([each["entry"] for each in told["added"]], ["pypi.org:443", "*.pypi.org:443"])
        self.assertTrue(self.vm.egress_block("internet")["isBlocked"])
        told = self.vm.egress_reset("internet")
        self.assertEqual((told["isBlocked"], told["added"]), (False, []))
        self.assertEqual(self.vm.egress_rules("internet")["rules"]["allow"], ["192.0.2.1:80"])
        self.assertTrue(self.vm.egress_test("internet", "192.0.2.1:80")["isAllowed"])
        self.assertFalse(self.vm.egress_test("internet", "192.0.2.1:81")["isAllowed"])
        for call in (self.vm.egress_block, self.vm.egress_rules):
            with self.assertRaises(Refused):
                call("nowhere")

    def test_what_an_egress_asks(self):
        self.vm.egress_allow("internet", ask=60)
        for place, decide, status in (
            ("127.0.0.1:9", lambda asked: asked.deny(seconds=60), b"403"),
            ("127.0.0.1:8", lambda asked: asked.allow(), b"502"),
        ):
            with socket.socket(socket.AF_UNIX) as stream:
                stream.connect(os.environ["EGRESS"])
                stream.sendall(f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n".encode())
                asked = next(iter(self.vm.egress_questions()))
                self.assertEqual((asked.destination, asked.told["connections"]), (place, 1))
                decide(asked)
                self.assertEqual(stream.recv(100).split()[1], status)
                with self.assertRaises(Refused):
                    asked.deny()
        told = self.vm.egress_reset("internet")
        self.assertEqual((told["added"], told["denied"], told["rules"]["askS"]), ([], [], None))

    def test_no_such_channel_is_refused(self):
        vm = Vproxy().channel("vm/1")
        for call in (lambda: next(iter(vm.egress_questions())), vm.services, vm.ports, lambda: vm.egress_rules("internet")):
            with self.assertRaises(Refused) as failed:
                call()
            self.assertEqual((failed.exception.code, str(failed.exception)[:17]), ("not-found", 'no channel "vm/1"'))

    def test_forwards(self):
        added = self.vm.add_forward("outgoing", "echo:127.0.0.1:0")
        with socket.create_connection(("127.0.0.1", int(added["endpoint"].rsplit(":", 1)[1]))) as stream:
            stream.sendall(b"words")
            self.assertEqual(stream.recv(5), b"words")
            self.vm.remove_forward(added["id"], drain=False)
        with self.assertRaises(Refused):
            self.vm.remove_forward(added["id"])

    def test_a_machine(self):
        self.assertGreater(self.vm.ping(), 0)
        self.assertIn(self.vm.wait_booted(timeout=None)["verdict"], ("booted", "failed"))

    def test_connect(self):
        with self.vm.connect("echo") as stream:
            stream.sendall(b"words")
            stream.shutdown(socket.SHUT_WR)
            self.assertEqual(stream.makefile("rb").read(), b"words")


class Asyncio(unittest.IsolatedAsyncioTestCase):
    async def test_what_an_egress_asks(self):
        vm = aio.Vproxy().channel()
        await vm.egress_allow("internet", ask=60)
        reader, writer = await asyncio.open_unix_connection(os.environ["EGRESS"])
        writer.write(b"CONNECT a.example:1 HTTP/1.1\r\nHost: a.example:1\r\n\r\n")
        async for asked in vm.egress_questions():
            self.assertEqual([each["entry"] for each in (await asked.deny())["denied"]], [asked.destination])
            break
        self.assertIn(b" 403 ", await reader.readline())
        writer.close()
        await vm.egress_reset("internet")

    async def test_run_and_popen(self):
        vm = aio.Vproxy().channel(env={"COLOUR": "red"})
        self.assertEqual((await vm.run(["cat"], input=BIG)).stdout, BIG)
        self.assertEqual((await vm.run(["sh", "-c", "echo $COLOUR"])).stdout, b"red\n")
        before = descriptors()
        done = await asyncio.gather(*(vm.run(["true"]) for _ in range(AT_A_TIME)))
        self.assertEqual([each.returncode for each in done], [0] * AT_A_TIME)
        self.assertLessEqual(descriptors(), before)
        with self.assertRaises(subprocess.TimeoutExpired):
            await vm.run(["sleep", "100"], timeout=1)
        with self.assertRaises(Refused):
            await vm.run(["no-such-program"])
        async with await vm.popen(["sh", "-c", "echo one; read line; echo $line"]) as process:
            self.assertEqual(await process.stdout.readline(), b"one\n")
            await process.stdin.write(b"two\n")
            self.assertEqual([line async for line in process.stdout], [b"two\n"])
            self.assertEqual(await process.wait(), 0)
        async with await vm.popen(["sh", "-c", "echo $$; exec sleep 1000"]) as process:
            pid = int(await process.stdout.readline())
        self.assertTrue(eventually(lambda: not is_running(pid)))

    async def test_a_block_raises_what_its_command_met(self):
        vm = aio.Vproxy().channel()

        async def block(argv, work, **options):
            async with await vm.popen(argv, **options) as process:
                await work(process)

        async def read(process):
            async for _ in process.stdout:
                pass

        async def write(process):
            while True:
                await process.stdin.write(BIG)

        async def handled(process):
            with self.assertRaises(CommandNotFound):
                await process.wait()

        async def leave(_process):
            raise KeyError

        with self.assertRaises(CommandNotFound):
            await block(["no-such-program"], read)
        with self.assertRaises(subprocess.TimeoutExpired):
            await block(["sleep", "100"], read, timeout=0.5)
        with self.assertRaises(BrokenPipeError) as failed:
            await block(["no-such-program"], write)
        self.assertIsInstance(failed.exception.__cause__, CommandNotFound)
        with self.assertRaises(KeyError):
            await block(["no-such-program"], leave)
        await block(["no-such-program"], handled)
        await block(["false"], read)
        await block(["sh", "-c", "exec >&- 2>&-; exec sleep 1000"], read)
        async with await vm.popen(["sleep", "1000"]) as process:
            pass
        with self.assertRaises(Lost):
            await process.wait()

    async def test_communicate_and_poll(self):
        vm = aio.Vproxy().channel()
        async with await vm.popen(["sh", "-c", "cat; echo error >&2; exit 3"]) as process:
            self.assertIsNone(process.poll())
            self.assertEqual(await process.communicate(BIG), (BIG, b"error\n"))
            self.assertEqual((process.poll(), process.returncode), (3, 3))
        async with await vm.popen(["sh", "-c", "echo out; echo error >&2"], stderr=subprocess.STDOUT) as process:
            out, err = await process.communicate()
            self.assertEqual((sorted(out.split()), err), ([b"error", b"out"], None))

    async def test_a_forgotten_command_warns_and_is_ended(self):
        vm = aio.Vproxy().channel()
        before = descriptors()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            process = await vm.popen(["sh", "-c", "echo $$; exec sleep 1000"])
            pid = int(await process.stdout.readline())
            del process
            gc.collect()
        self.assertTrue(any("forgotten" in str(each.message) for each in caught))
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0.01)
        self.assertTrue(eventually(lambda: not is_running(pid)))
        self.assertLessEqual(descriptors(), before)

    async def test_a_forgotten_command_is_ended_where_warnings_are_errors(self):
        with warnings_as_errors() as errors:
            process = await aio.Vproxy().channel().popen(["sh", "-c", "echo $$; exec sleep 1000"])
            pid = int(await process.stdout.readline())
            del process
            gc.collect()
        self.assertTrue(any("forgotten" in str(error) for error in errors))
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0.01)
        self.assertTrue(eventually(lambda: not is_running(pid)))

    async def test_a_forked_process_keeps_no_command(self):
        with tempfile.TemporaryDirectory() as folder:
            script = f"echo $$ >{folder}/new; mv {folder}/new {folder}/pid; exec sleep 1000"
            task = asyncio.ensure_future(aio.Vproxy().channel().run(["sh", "-c", script]))
            while not os.path.exists(f"{folder}/pid"):
                await asyncio.sleep(0.01)
            with forked():
                task.cancel()
                await asyncio.wait({task})
                pid = int(pathlib.Path(f"{folder}/pid").read_text(encoding="ascii"))
                while is_running(pid):
                    await asyncio.sleep(0.01)

    async def test_many_commands_of_one_machine_do_not_stop_the_others(self):
        process = aio.Vproxy()
        label = (await process.channels())[0]["label"]
        busy, other = process.channel(label), process.channel()
        async with contextlib.AsyncExitStack() as stack:
            sleeping = [asyncio.ensure_future(busy.run(["sleep", "1000"])) for _ in range(128)]
            stack.callback(lambda: [each.cancel() for each in sleeping])
            self.assertEqual((await other.run(["true"])).returncode, 0)
            begun = time.monotonic()
            with self.assertRaises(subprocess.TimeoutExpired):
                await busy.run(["true"], timeout=1)
            self.assertLess(time.monotonic() - begun, 20)
            waiting = asyncio.ensure_future(busy.run(["true"]))
            await asyncio.sleep(0)
            sleeping[0].cancel()
            self.assertEqual((await waiting).returncode, 0)
        await asyncio.gather(*sleeping, return_exceptions=True)

    async def test_more_commands_than_the_peer_runs(self):
        """Each process of this machine has a bound of its own; together they have more than 256."""
        machines = [aio.Vproxy().channel() for _ in range(3)]
        script = ["sh", "-c", "sleep 0.3; wc -c"]
        running = [vm.run(script, input=bytes(20_000), timeout=120) for vm in machines for _ in range(128)]
        self.assertEqual({done.stdout.strip() for done in await asyncio.gather(*running)}, {b"20000"})

    async def test_output_that_nobody_reads_is_not_kept(self):
        async with await aio.Vproxy().channel().popen(["yes"]) as process:
            while len(process.stdout._buffer) < 1 << 18:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            self.assertLess(len(process.stdout._buffer), 1 << 20)
            self.assertEqual(await process.stdout.readexactly(1 << 20), b"y\n" * (1 << 19))

    async def test_facts(self):
        process = aio.Vproxy()
        vm = process.channel()
        await vm.run(["true"])
        self.assertIn("stream-opened", [event["event"] async for event in process.events("1m", follow=False)])
        await vm.wait("exec", timeout=10)
        with self.assertRaises(VproxyError) as failed:
            await vm.copy_from("/none", "/tmp/none")
        self.assertEqual(failed.exception.code, "copy-failed")
        with tempfile.TemporaryDirectory() as folder:
            with open(f"{folder}/sent", "wb") as file:
                file.truncate(1 << 31)
            begun = asyncio.Event()
            copying = asyncio.ensure_future(
                vm.copy_to(f"{folder}/sent", f"{folder}/there", progress=lambda told: told["bytes"] and begun.set())
            )
            await begun.wait()
            copying.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await copying
            self.assertEqual(os.listdir(folder), ["sent"])
        self.assertIn("exec", [row["service"] for row in await vm.services()])
        self.assertTrue((await vm.info())["hostName"])
        reader, writer = await vm.connect("echo")
        writer.write(b"words")
        writer.write_eof()
        self.assertEqual(await reader.read(), b"words")
        writer.close()
        with self.assertRaises(TimedOut):
            async for _ in process.events(since=0, timeout=0.2):
                pass


class Disturbed(unittest.TestCase):
    """Each test has a pair of its own."""

    def test_a_command_continues_in_a_successor(self):
        process = Vproxy()
        vm = process.channel()
        with vm.popen(["sh", "-c", "echo begun; read line; echo $line; exit 3"]) as command:
            self.assertEqual(command.stdout.readline(), b"begun\n")
            pid = process.ask("POST", "/v1/upgrade", body={"waitS": 60})["pid"]
            try:
                command.stdin.write(b"ended\n")
                self.assertEqual((command.stdout.read(), command.wait()), (b"ended\n", 3))
                self.assertEqual(vm.run(["echo", "after"]).stdout, b"after\n")
                self.assertEqual(process.status()["process"]["pid"], pid)
            finally:
                os.kill(pid, 15)

    def test_a_job_is_read_through_an_upgrade(self):
        process = Vproxy()
        vm = process.channel()
        with tempfile.TemporaryDirectory() as folder:
            # Its end waits for that of the upgrade.
            job = vm.start(["sh", "-c", f"echo begun; until [ -e {folder}/go ]; do sleep 0.05; done; echo over"])
            output = vm.attach(job)
            pieces = iter(output)
            self.assertEqual(next(pieces), b"begun\n")
            pid = process.ask("POST", "/v1/upgrade", body={"waitS": 20})["pid"]
            try:
                open(f"{folder}/go", "x").close()
                self.assertEqual((b"".join(pieces), output.end.returncode), (b"over\n", 0))
            finally:
                os.kill(pid, 15)

    def test_a_lost_channel(self):
        process = Vproxy()
        command = process.channel().popen(["sh", "-c", "echo begun; exec sleep 1000"])
        self.assertEqual(command.stdout.readline(), b"begun\n")
        os.kill(int(os.environ["GUEST_PID"]), 9)
        with self.assertRaises(Lost) as failed:
            command.wait(30)
        self.assertEqual(failed.exception.code, "exec-unavailable")
        with self.assertRaises(TimedOut) as failed:
            process.channel().wait(timeout=0.5)
        self.assertEqual(failed.exception.code, "no-session")

    def test_a_lost_channel_of_asyncio(self):
        """And then a lost process."""

        async def main():
            process = aio.Vproxy()
            vm = process.channel()
            events = process.events(since=0)
            for pid in ("GUEST_PID", "HOST_PID"):
                with self.assertRaises(Lost) as failed:
                    if pid == "HOST_PID":
                        os.kill(int(os.environ[pid]), 9)
                        [_ async for _ in events]
                    async with await vm.popen(["sh", "-c", "echo begun; exec sleep 1000"]) as command:
                        async for line in command.stdout:
                            self.assertEqual(line, b"begun\n")
                            os.kill(int(os.environ[pid]), 9)
                self.assertEqual(failed.exception.code, "exec-unavailable" if pid == "GUEST_PID" else "control-unavailable")

        asyncio.run(main())

    def test_a_process_that_stood_still(self):
        process, count = aio.Vproxy(), 700
        pid = int(os.environ["HOST_PID"])

        async def main():
            asking = [asyncio.ensure_future(process.ask("GET", "/v1/channels")) for _ in range(count)]
            asyncio.get_running_loop().call_later(1, os.kill, pid, signal.SIGCONT)
            return await asyncio.gather(*asking)

        os.kill(pid, signal.SIGSTOP)
        try:
            with self.assertRaises(TimedOut):
                for _ in range(count):  # once the queue of the socket is full
                    Vproxy().ask("GET", "/v1/channels", timeout=0.01)
            self.assertEqual([len(each) for each in asyncio.run(main())], [1] * count)
        finally:
            os.kill(pid, signal.SIGCONT)


class Storage(unittest.TestCase):
    def test_replies_as_bytes(self):
        def answer(call: StorageCall) -> StorageReply:
            if call.argv[1] == "fail":
                raise RuntimeError("no")
            return StorageReply(stdout=b"\xff" + " ".join(call.argv).encode(), stderr=call.vm or "", status=3)

        failures = queue.Queue()
        with StorageEmulator(answer, on_failure=failures.put) as emulator:
            host, port = emulator.listen("127.0.0.1:0").split(":")
            with socket.create_connection((host, int(port))) as connection:
                connection.sendall(b'{"argv":["storcli64","/c0"],"vm":"vm1"}\n{"argv":[]}\n')
                reader = connection.makefile("rb")
                self.assertEqual(
                    reader.readline(),
                    b'{"status": 3, "stdout": "\\ufffdstorcli64 /c0", "stdoutBase64": "/3N0b3JjbGk2NCAvYzA=", "stderr": "vm1"}\n',
                )
                self.assertIn(b'"status": 126', reader.readline())
                connection.sendall(b'{"argv":["storcli64","fail"]}\n')
                self.assertEqual(reader.read(), b"")
        self.assertEqual(failures.get(timeout=10).args, ("no",))


if __name__ == "__main__":
    unittest.main()
