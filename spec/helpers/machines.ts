/**
 * Machines and processes that a test could not have otherwise: folders in place of /dev and /sys, a QEMU without a guest, a
 * process under another name.
 */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import type { ExecutionContext } from 'ava';
import { Machine, type MachineOptions } from '../../cli/doctor/machine.js';
import { temporaryFolder } from './files.js';
import { within } from './time.js';

/** The differences from the real machine. */
export interface FakeMachine extends Partial<MachineOptions> {
  /** Files by path below the fake root: `sys/class/virtio-ports/vport0p1/name`. */
  readonly files?: Readonly<Record<string, string>>;
  /** Links, likewise, with their targets. */
  readonly links?: Readonly<Record<string, string>>;
}

// The time that a busy machine may take to list its processes and sockets; specs in which something hangs set a shorter one.
const USUAL = { logs: [], controlFolder: null, timeoutMs: 30_000 };

/** A machine whose /dev and /sys are folders of a test; /proc is the real one unless `proc` is given. */
export function fakeMachine(t: ExecutionContext, { files = {}, links = {}, ...options }: FakeMachine = {}): Machine {
  const { dev, sys, etc, environment } = fakeRoot(t, files, links);
  return new Machine({ dev, sys, etc, environment, ...USUAL, ...options });
}

/** The same, with /proc as a folder as well. */
export const fakeMachineWithProc = (t: ExecutionContext, { files = {}, links = {}, ...options }: FakeMachine = {}) =>
  new Machine({ ...fakeRoot(t, files, links), ...USUAL, ...options });

function fakeRoot(
  t: ExecutionContext,
  files: Readonly<Record<string, string>>,
  links: Readonly<Record<string, string>>,
) {
  const root = temporaryFolder(t);
  const at = (path: string): string => join(root, path);
  for (const folder of ['dev', 'sys', 'proc']) mkdirSync(at(folder));
  for (const path of [...Object.keys(files), ...Object.keys(links)]) mkdirSync(dirname(at(path)), { recursive: true });
  for (const [path, content] of Object.entries(files)) writeFileSync(at(path), content);
  for (const [path, target] of Object.entries(links)) symlinkSync(target, at(path));
  return { dev: at('dev'), sys: at('sys'), etc: at('etc'), proc: at('proc'), environment: {} };
}

/** The files of a port called `name`. */
export const portFiles = (name: string, device = 'vport0p1'): Record<string, string> => ({
  [`sys/class/virtio-ports/${device}/name`]: `${name}\n`,
});

// A QEMU without a guest: it accepts its arguments, has its chardevs, and its processor never starts.

// A process under another program's name with files and sockets open, like QEMU or a getty.

interface Pretence {
  /** The name of its program, at most 15 characters. */
  readonly program: string;
  /** Listens on a unix socket, and accepts connections. */
  readonly listen?: string;
  readonly bindDatagram?: string;
  /** Listens on a unix socket of the type SOCK_SEQPACKET at this path. */
  readonly listenPackets?: string;
  /** Listens on a port of 127.0.0.1 that the system picks. */
  readonly listenTcp?: boolean;
  /** Connects to a unix socket on which another one listens; the connection is accepted, unless `isQueued`. */
  readonly connect?: string;
  readonly isQueued?: boolean;
  readonly connectTcp?: number;
  readonly open?: readonly string[];
  /** Makes a pseudo-terminal whose user's end no process has open. */
  readonly terminal?: boolean;
  readonly words?: readonly string[];
}

const PROGRAM = `
import json, os, pty, socket, sys, threading, tty
wants = json.loads(sys.argv[1])
with open('/proc/self/comm', 'w') as comm: comm.write(wants['program'])
kept = []
told = {'port': 0, 'terminal': ''}
def accept(server):
    while True:
        kept.append(server.accept())
        kept[-1][0].send(b'.')
def serve(server):
    server.listen(8)
    threading.Thread(target=accept, args=(server,), daemon=True).start()
if 'listen' in wants:
    server = socket.socket(socket.AF_UNIX)
    server.bind(wants['listen'])
    serve(server)
if 'bindDatagram' in wants:
    kept.append(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    kept[-1].bind(wants['bindDatagram'])
if 'listenPackets' in wants:
    kept.append(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    kept[-1].bind(wants['listenPackets'])
    kept[-1].listen()
if 'listenTcp' in wants:
    server = socket.socket()
    server.bind(('127.0.0.1', 0))
    told['port'] = server.getsockname()[1]
    serve(server)
if 'connect' in wants:
    kept.append(socket.socket(socket.AF_UNIX))
    kept[-1].connect(wants['connect'])
if 'connectTcp' in wants: kept.append(socket.create_connection(('127.0.0.1', wants['connectTcp'])))
# Until it is accepted it waits in a queue, which others can see.
if not wants.get('isQueued') and ('connect' in wants or 'connectTcp' in wants): kept[-1].recv(1)
for path in wants.get('open', []): kept.append(os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY))
if 'terminal' in wants:
    master, slave = pty.openpty()
    told['terminal'] = os.ttyname(slave)
    os.close(slave)
print(json.dumps(told), flush=True)
threading.Event().wait()
`;

/** Starts one, with the port of `listenTcp` and the path of `terminal`; it is killed when the test ends. */
export async function pretend(t: ExecutionContext, { words = [], ...wants }: Pretence) {
  const child = spawn('python3', ['-ISc', PROGRAM, JSON.stringify(wants), ...words], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  const told = once(createInterface({ input: child.stdout }), 'line');
  const [line] = (await within(20_000, 'a process that pretends', told)) as [string];
  const { port, terminal } = JSON.parse(line) as { port: number; terminal: string };
  return { pid: child.pid ?? 0, port, terminal, kill: (signal: NodeJS.Signals) => child.kill(signal) };
}
