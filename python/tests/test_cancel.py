"""
Cancels everything at random turns of the loop, against a running pair: a cancellation is never swallowed, and leaves nothing
here or there. SEED and POINTS in the environment choose the points. Interrupts the synchronous calls, at every point.
"""

import asyncio
import faulthandler
import gc
import os
import random
import subprocess
import sys
import tempfile
import time
import unittest
import warnings

import vproxy
from vproxy import aio

SEED = int(os.environ.get("SEED", random.randrange(1 << 30)))
POINTS = int(os.environ.get("POINTS", "30"))

#: A word that no other command of this machine, which the guest shares, has.
MARK = f"86400.{os.getpid()}"


def marked():
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if MARK.encode() in file.read():
                    found.append(int(pid))
        except OSError:
            pass
    return found


def descriptors():
    return len(os.listdir("/proc/self/fd"))


async def settled(condition):
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    return condition()


class Cancelled(unittest.IsolatedAsyncioTestCase):
    def setUp(self):
        self.vm = aio.Vproxy().channel()
        self.random = random.Random(SEED)

    async def run_short(self):
        await self.vm.run(["true"], timeout=30)

    async def run_with_input(self):
        await self.vm.run(["cat"], input=bytes(500_000), timeout=30, max_output=1 << 20)

    async def run_long(self):
        await self.vm.run(["sh", "-c", f"sleep {MARK}; true"], timeout=0.3, kill_after=0.1)

    async def block(self):
        async with await self.vm.popen(["sh", "-c", f"echo begun; read line; echo $line; : {MARK}"]) as process:
            self.assertEqual(await process.stdout.readline(), b"begun\n")
            await process.stdin.write(b"line\n")
            self.assertEqual(await process.communicate(), (b"line\n", b""))

    async def flood(self):
        async with await self.vm.popen(["sh", "-c", f"yes; : {MARK}"], stderr=subprocess.STDOUT) as process:
            await process.stdout.readexactly(1 << 20)

    async def write(self):
        async with await self.vm.popen(["sh", "-c", f"sleep 0.2; cat >&2; : {MARK}"]) as process:
            await process.communicate(bytes(1_000_000))

    async def job(self):
        job = await self.vm.start(["sh", "-c", f"echo out; exec sleep {MARK}"])
        try:
            async for _ in self.vm.attach(job):
                break
        finally:
            await asyncio.shield(asyncio.ensure_future(self.vm.stop_job(job)))

    async def ask(self):
        await self.vm.process.status()
        await self.vm.wait("exec", timeout=10)

    async def events(self):
        async for _ in self.vm.process.events(follow=False):
            pass

    async def connect(self):
        _, writer = await self.vm.connect("echo", timeout=10)
        writer.close()

    async def copy(self):
        with tempfile.TemporaryDirectory() as folder:
            with open(f"{folder}/a", "wb") as file:
                file.write(bytes(100_000))
            await self.vm.copy_to(f"{folder}/a", f"{folder}/b")

    async def turns(self, work, count):
        """Cancels it after so many turns of the loop. Returns how many there were."""
        task, turn = asyncio.ensure_future(work()), 0
        while turn < count and not task.done():
            turn += 1
            await asyncio.sleep(0)
        if task.cancel():
            await asyncio.wait({task})
            self.assertTrue(task.cancelled(), f"swallowed at turn {turn} of {work.__name__}")
        elif not task.cancelled() and not isinstance(task.exception(), subprocess.TimeoutExpired):
            task.result()
        return turn

    async def cancel_often(self, work, points=POINTS):
        await self.turns(work, sys.maxsize)
        await self.clean(0, 0)
        before, commands = descriptors(), len(marked())
        most = await self.turns(work, sys.maxsize)
        points = [*range(min(20, points)), *(self.random.randrange(most + 1) for _ in range(points))]
        with warnings.catch_warnings():
            warnings.simplefilter("error", ResourceWarning)
            for point in points:
                with self.subTest(work=work.__name__, point=point, most=most, seed=SEED):
                    await self.turns(work, point)
            await self.clean(before, commands)

    async def clean(self, before, commands):
        self.assertTrue(await settled(lambda: len(asyncio.all_tasks()) == 1), asyncio.all_tasks())
        gc.collect()
        if before:
            for job in await self.vm.jobs():
                await self.vm.stop_job(job["id"])
            self.assertTrue(await settled(lambda: descriptors() <= before))
            self.assertTrue(await settled(lambda: len(marked()) <= commands), marked())

    async def test_run(self):
        for work in (self.run_short, self.run_with_input, self.run_long):
            await self.cancel_often(work)

    async def test_popen(self):
        for work in (self.block, self.flood, self.write):
            await self.cancel_often(work)

    async def test_jobs(self):
        """A job whose start was cancelled may run; it is in the list."""
        await self.cancel_often(self.job, POINTS // 4)

    async def test_requests(self):
        for work in (self.ask, self.events, self.connect):
            await self.cancel_often(work)

    async def test_copies(self):
        await self.cancel_often(self.copy, POINTS // 8)

    async def test_turns_are_not_lost(self):
        """Of 300 at a time, cancelled at random, the others run."""
        tasks = [asyncio.ensure_future(self.vm.run(["true"])) for _ in range(300)]
        victims = self.random.sample(tasks, 200)
        for task in victims:
            for _ in range(self.random.randrange(20)):
                await asyncio.sleep(0)
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        for task, result in zip(tasks, done):
            if task not in victims:
                self.assertEqual(result.returncode, 0)
        # All places are free again.
        self.assertEqual(len(await asyncio.gather(*(self.vm.run(["true"]) for _ in range(130)))), 130)


class Interrupts:
    """Raises KeyboardInterrupt at a call or a return of the package or of ``threading``, as a signal handler would."""

    def __init__(self, at):
        self.at, self.count = at, 0

    def __call__(self, frame, event, _value):
        frame.f_trace_lines = False
        name = frame.f_code.co_filename
        if event in ("call", "return") and name.endswith(("vproxy/_sync.py", "threading.py")):
            self.count += 1
            if self.count == self.at and not self.is_finalizing(frame):
                raise KeyboardInterrupt
        return self

    @staticmethod
    def is_finalizing(frame):
        """Python ignores exceptions of a finalizer."""
        while frame is not None and frame.f_code.co_name != "__del__":
            frame = frame.f_back
        return frame is not None


class Interrupted(unittest.TestCase):
    def setUp(self):
        self.vm = vproxy.Vproxy().channel()

    def communicate(self):
        with self.vm.popen(["sh", "-c", f"cat; echo end >&2; : {MARK}"]) as process:
            self.assertEqual(process.communicate(b"input", timeout=30), (b"input", b"end\n"))

    def wait(self):
        with self.vm.popen(["sh", "-c", f"echo begun; exec sleep {MARK}"], text=True) as process:
            self.assertEqual(process.stdout.readline(), "begun\n")
            process.terminate()
            self.assertEqual(process.wait(timeout=30), -15)

    def test_popen(self):
        """Nothing hangs, and no thread and no command remain."""
        threads = len(os.listdir("/proc/self/task"))
        for work in (self.communicate, self.wait):
            at, interrupts = 0, Interrupts(0)
            while at <= interrupts.count:
                at, interrupts = at + 1, Interrupts(at + 1)
                faulthandler.dump_traceback_later(60, exit=True)
                with self.subTest(work=work.__name__, at=at), warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    sys.settrace(interrupts)
                    try:
                        work()
                    except KeyboardInterrupt:
                        pass
                    finally:
                        sys.settrace(None)
            faulthandler.cancel_dump_traceback_later()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                gc.collect()
            remaining = lambda: len(os.listdir("/proc/self/task")) - threads + len(marked())  # noqa: E731
            self.assertTrue(asyncio.run(settled(lambda: remaining() == 0)), remaining())


if __name__ == "__main__":
    unittest.main()
