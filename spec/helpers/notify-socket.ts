/** A service manager as a service sees it: it receives notifications, and passes listening sockets. In Python, as Node can do neither. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { ExecutionContext } from 'ava';
import { temporaryFolder } from './files.js';

const RECEIVER = `
import json, socket, sys
receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
receiver.bind(sys.argv[1])
print("[]", flush=True)
while True:
    print(json.dumps(receiver.recv(65536).decode().splitlines()), flush=True)
`;

const LAUNCHER = `
import os, socket, sys
names, path = sys.argv[1:3]
listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
listener.bind(path)
listener.listen(8)
count = len(names.split(":"))
held = [os.dup(listener.fileno()) for _ in range(count)]
for number, fd in enumerate(held):
    os.dup2(fd, 3 + number, True)
os.environ.update(LISTEN_FDS=str(count), LISTEN_FDNAMES=names, LISTEN_PID=str(os.getpid()))
os.execvp(sys.argv[3], sys.argv[3:])
`;

export interface NotifySocket {
  /** For `NOTIFY_SOCKET`. */
  readonly path: string;
  /** The `KEY=VALUE` of every message so far, in order, without systemd-notify's own barriers. */
  readonly facts: readonly string[];
}

/** Receives notifications until the test is over. */
export async function openNotifySocket(t: ExecutionContext): Promise<NotifySocket> {
  const path = join(temporaryFolder(t), 'notify.sock');
  const child = spawn('python3', ['-c', RECEIVER, path], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => child.kill());
  const facts: string[] = [];
  const lines = createInterface({ input: child.stdout });
  const isUp = once(lines, 'line');
  lines.on('line', (line) =>
    facts.push(...(JSON.parse(line) as string[]).filter((fact) => !fact.startsWith('BARRIER='))),
  );
  await isUp;
  return { path, facts };
}

/** The words of a launcher (`SpawnOptions.launcher`) that listens at `path`, and hands that socket over under each of `names`. */
export function socketLauncher(path: string, names: readonly string[]): string[] {
  return ['python3', '-c', LAUNCHER, names.join(':'), path];
}
