/** Pseudo-terminals in raw mode: character devices that stand in for virtio-serial ports. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import type { ExecutionContext } from 'ava';

/** The host's end of a stand-in, and the path of the guest's. */
export interface Pty {
  readonly path: string;
  readonly input: Writable;
  readonly output: Readable;
  /** The host leaves: the guest's end is hung up. */
  hangUp(): void;
}

/** A pseudo-terminal, made by script(1), whose user holds the guest's end open as well. */
export async function openPty(t: ExecutionContext): Promise<Pty> {
  const command = 'stty raw -echo -iexten -ixon; tty; exec sleep 120';
  const child: ChildProcessByStdio<Writable, Readable, null> = spawn('script', ['-qfc', command, '/dev/null'], {
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  child.stdin.on('error', () => undefined);
  t.teardown(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
  });
  let text = '';
  while (!text.includes('\n')) text += String((await once(child.stdout, 'data'))[0]);
  child.stdout.pause().removeAllListeners('data');
  return {
    path: text.trim(),
    input: child.stdin,
    output: child.stdout,
    hangUp: () => child.kill('SIGKILL'),
  };
}

/** Two of them, back to back; the paths of their guests' ends. */
export async function openPtyPair(t: ExecutionContext): Promise<readonly [Pty, Pty]> {
  const [one, other] = await Promise.all([openPty(t), openPty(t)]);
  one.output.pipe(other.input);
  other.output.pipe(one.input);
  return [one, other];
}
