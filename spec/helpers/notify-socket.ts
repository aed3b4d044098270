/** A service manager for systemd-notify: receives notifications, and closes their descriptors. In Python, as Node cannot. */
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
