/** Children of Node that a real-time signal ends: Node has no name for it, and reports an exit with status 0. */
import { closeSync } from 'node:fs';
import { readText } from '../files/optional-files.js';
import { openPipeHandle, ReadableHandle } from '../handles.js';
import type { Libc, NativeCall } from '../libc.js';
import { signalWatch } from './children.js';

/** The system call has this number on all architectures. */
const PIDFD_OPEN = 434;

/** `PIDFD_GET_INFO` and `PIDFD_INFO_EXIT` of Linux 6.15; `exit_code` is the last word of the structure. */
const [GET_INFO, INFO_EXIT, INFO_WORDS] = [0xc040ff0b, 8, 16] as const;

let calls: { readonly syscall: NativeCall; readonly ioctl: NativeCall } | null = null;

/** Call it once; before, such signals are not found. */
export function loadRealTimeSignals(libc: Libc): void {
  const ioctl = libc.declare('int ioctl(int fd, unsigned long request, void *argument)');
  calls = { ioctl, syscall: libc.declare('long syscall(long number, long pid, long flags)') };
  signalWatch.begin = watchSignal;
}

/** Watches a child that was just started. The returned function, for its `exit`, names the signal that ended it: `SIG35`. */
function watchSignal(pid: number): () => string | null {
  const fd = calls?.syscall(PIDFD_OPEN, pid, 0) ?? -1;
  const handle = fd < 0 ? null : openPipeHandle(fd);
  if (handle === null && fd >= 0) closeSync(fd);
  if (handle === null) return () => null;
  let status: number | null = null;
  // Readable before SIGCHLD comes, and libuv handles signals last: the child is still a zombie, with its status in the last field.
  const death = new ReadableHandle(handle, () => {
    status = Number(readText(`/proc/${pid}/stat`).trimEnd().split(' ').at(-1) ?? 0);
    death.close();
  });
  return () => {
    // SIGCHLD of another child came first.
    status ??= exitCodeOf(fd);
    death.close();
    const signal = status & 0x7f;
    return signal === 0 ? null : `SIG${signal}`;
  };
}

/** Zero before Linux 6.15. */
function exitCodeOf(fd: number): number {
  const info = new Int32Array(INFO_WORDS);
  info[0] = INFO_EXIT;
  calls?.ioctl(fd, GET_INFO, Buffer.from(info.buffer));
  return info.at(-1) ?? 0;
}
