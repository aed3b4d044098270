/**
 * Real pipes for commands. What Node calls a pipe is a unix socket, which no path leads to: `echo x > /dev/stdout` fails
 * in one. Node has no pipe(2), but it can open FIFOs, and one without a name is a pipe to everybody.
 */
import { spawn } from 'node:child_process';
import { closeSync, constants, fchownSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

/** The two ends of a pipe, as descriptors: of an open file of their own each, so one may be non-blocking. */
export interface PipeEnds {
  readonly readFd: number;
  readonly writeFd: number;
}

/** So many are made at once: enough for four commands. */
const BATCH_PIPES = 12;

/** Makes pipes, and has some ready: mkfifo(1) takes as long to start as a command. */
export class PipePool {
  /** Each open for both ways. */
  readonly #spare: number[] = [];
  #wantedCount = 0;
  #filling: Promise<boolean> | null = null;

  /** So many pipes, for processes of `owner`, or null where this system has none to give. They are the caller's to close. */
  async take(count: number, owner?: { readonly uid: number; readonly gid: number }): Promise<PipeEnds[] | null> {
    this.#wantedCount += count;
    try {
      while (this.#spare.length < count) if (!(await this.#fill())) return null;
    } finally {
      this.#wantedCount -= count;
    }
    return openAll(this.#spare.splice(0, count), owner);
  }

  /** Makes new ones where few are left. */
  refill(): void {
    if (this.#spare.length < BATCH_PIPES / 2) void this.#fill();
  }

  /** Closes those that nobody has taken; there may be new ones later. */
  close(): void {
    for (const fd of this.#spare.splice(0)) closeSync(fd);
  }

  #fill(): Promise<boolean> {
    this.#filling ??= makePipes(Math.max(BATCH_PIPES, this.#wantedCount))
      .then((made) => {
        this.#spare.push(...made);
        return true;
      })
      .catch(() => false)
      .finally(() => {
        this.#filling = null;
      });
    return this.#filling;
  }
}

/** The pipes of this process. */
export const commandPipes = new PipePool();

async function makePipes(count: number): Promise<number[]> {
  const folder = mkdtempSync(path.join(tmpdir(), 'vproxy-pipes-'));
  const made: number[] = [];
  try {
    const files = Array.from({ length: count }, (_, index) => path.join(folder, String(index)));
    await run('mkfifo', ['-m', '600', ...files]);
    for (const file of files) made.push(openSync(file, constants.O_RDWR | constants.O_NONBLOCK));
    return made;
  } catch (error) {
    for (const fd of made) closeSync(fd);
    throw error;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function openAll(fds: readonly number[], owner?: { readonly uid: number; readonly gid: number }): PipeEnds[] | null {
  const opened: number[] = [];
  try {
    return fds.map((fd) => {
      if (owner !== undefined) fchownSync(fd, owner.uid, owner.gid);
      const [readFd, writeFd] = [constants.O_RDONLY, constants.O_WRONLY].map((way) => {
        const end = openSync(`/proc/self/fd/${fd}`, way);
        opened.push(end);
        return end;
      }) as [number, number];
      return { readFd, writeFd };
    });
  } catch {
    for (const fd of opened) closeSync(fd);
    return null;
  } finally {
    for (const fd of fds) closeSync(fd);
  }
}

function run(file: string, args: readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    spawn(file, args, { stdio: 'ignore' })
      .once('error', reject)
      .once('exit', (status) => {
        if (status === 0) resolve();
        else reject(new Error(`${file} ended with ${status ?? 'a signal'}`));
      });
  });
}
