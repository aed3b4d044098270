/** A process that goes by another program's name and has things open, as QEMU or a getty would. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import type { ExecutionContext } from 'ava';
import { within } from './eventually.js';

/** What it does before it is ready. */
export interface Pretence {
  /** The name of its program, at most 15 characters. */
  readonly program: string;
  /** Listens on a unix socket, and accepts what comes. */
  readonly listen?: string;
  /** Binds a socket for datagrams. */
  readonly bindDatagram?: string;
  /** Listens on a port of 127.0.0.1 that the system picks. */
  readonly listenTcp?: boolean;
  /** Connects to a unix socket. */
  readonly connect?: string;
  /** Connects to a port of 127.0.0.1. */
  readonly connectTcp?: number;
  /** Opens files to read and write. */
  readonly open?: readonly string[];
  /** Makes a pseudo-terminal, of which nobody has the user's end open. */
  readonly terminal?: boolean;
  /** Words of its command line. */
  readonly words?: readonly string[];
}

/** The process, once it is ready. */
export interface Pretender {
  readonly pid: number;
  /** The port of `listenTcp`. */
  readonly port: number;
  /** The path of `terminal`. */
  readonly terminal: string;
  kill(signal: NodeJS.Signals): void;
}

const PROGRAM = `
import json, os, pty, socket, sys, threading, tty
wants = json.loads(sys.argv[1])
with open('/proc/self/comm', 'w') as comm: comm.write(wants['program'])
kept = []
told = {'port': 0, 'terminal': ''}
def accept(server):
    while True: kept.append(server.accept())
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
if 'listenTcp' in wants:
    server = socket.socket()
    server.bind(('127.0.0.1', 0))
    told['port'] = server.getsockname()[1]
    serve(server)
if 'connect' in wants:
    kept.append(socket.socket(socket.AF_UNIX))
    kept[-1].connect(wants['connect'])
if 'connectTcp' in wants: kept.append(socket.create_connection(('127.0.0.1', wants['connectTcp'])))
for path in wants.get('open', []): kept.append(os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY))
if 'terminal' in wants:
    master, slave = pty.openpty()
    told['terminal'] = os.ttyname(slave)
    os.close(slave)
print(json.dumps(told), flush=True)
threading.Event().wait()
`;

/** Starts one; it is killed when the test ends. */
export async function pretend(t: ExecutionContext, { words = [], ...wants }: Pretence): Promise<Pretender> {
  const child: ChildProcessByStdio<null, Readable, null> = spawn(
    'python3',
    ['-c', PROGRAM, JSON.stringify(wants), ...words],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  t.teardown(() => child.kill('SIGKILL'));
  const [line] = (await within(
    20_000,
    'a process that pretends',
    once(createInterface({ input: child.stdout }), 'line'),
  )) as [string];
  const { port, terminal } = JSON.parse(line) as { port: number; terminal: string };
  return { pid: child.pid ?? 0, port, terminal, kill: (signal) => child.kill(signal) };
}
