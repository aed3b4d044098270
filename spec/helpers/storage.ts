/**
 * Storage calls in specs: emulators that behave like existing ones, without any code of vproxy; a guest with a broker; and the
 * wrapper as a process.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { symlink } from 'node:fs/promises';
import { createConnection, type Socket } from 'node:net';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { buffer, text } from 'node:stream/consumers';
import type { ExecutionContext } from 'ava';
import { StorageBroker, type StorageBrokerOptions, type StorageCallRecord } from '../../lib/storage/broker.js';
import type { StorageEmulatorChange, StoragePeerService } from '../../lib/storage/emulator-pool.js';
import { callStorage } from '../../lib/storage/wrapper.js';
import { PROJECT_ROOT, temporaryFolder } from './files.js';
import { localServer } from './local-server.js';

/** The reaction of an emulator to a command line: answer, send these bytes, or die (hang up). */
export type Behaviour = { stdout: string; stderr: string; status: number } | Buffer | 'die';

/** Decides the reaction to a request; called once for each, with its command line and all of its fields. */
export type Decide = (argv: string[], fields: Record<string, unknown>) => Behaviour | Promise<Behaviour>;

/** Answers with the arguments, so that every call can recognize its reply. */
export const echo: Decide = (argv) => ({ stdout: `${argv.slice(1).join(' ')}\n`, stderr: '', status: 0 });

export class FieldEmulator {
  port = 0;
  /** The command lines received, joined, in order. */
  readonly requests: string[] = [];
  /** The most requests in progress at once. */
  mostAtOnce = 0;
  #atOnce = 0;
  readonly #decide: Decide;

  constructor(decide: Decide) {
    this.#decide = decide;
  }

  /** Listens; serves one connection at a time; one `recv(1024)` a request; keeps the connection. */
  static singleRead(t: ExecutionContext, decide = echo): Promise<FieldEmulator> {
    const emulator = new FieldEmulator(decide);
    let turn = Promise.resolve();
    return emulator.#listen(t, 0, (socket) => {
      turn = turn.then(() => emulator.#serveReads(socket));
    });
  }

  /** Listens; reads a line; closes after its reply. */
  static readline(t: ExecutionContext, decide = echo, port = 0): Promise<FieldEmulator> {
    const emulator = new FieldEmulator(decide);
    return emulator.#listen(t, port, (socket) => {
      const lines = createInterface(socket).on('error', () => undefined);
      lines.once('line', (line) => void emulator.#answer(socket, line).then(() => socket.end()));
    });
  }

  /** Dials a port; one `recv(1024)` a request; keeps the connection, and dials again when it ends. */
  static dialing(t: ExecutionContext, port: number, decide = echo): FieldEmulator {
    const emulator = new FieldEmulator(decide);
    const over = new AbortController();
    t.teardown(() => over.abort());
    const dial = (): void => {
      if (over.signal.aborted) return;
      const socket = createConnection({ host: '127.0.0.1', port, allowHalfOpen: true });
      over.signal.addEventListener('abort', () => socket.destroy());
      socket.on('error', () => undefined).once('close', dial);
      void emulator.#serveReads(socket);
    };
    dial();
    return emulator;
  }

  async #listen(t: ExecutionContext, port: number, serve: (socket: Socket) => void): Promise<this> {
    this.port = (await localServer(t, serve, { port, host: '127.0.0.1' })).port;
    return this;
  }

  /** Broken JSON ends the connection. */
  async #serveReads(socket: Socket): Promise<void> {
    try {
      for await (const chunk of socket.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
        for (let at = 0; at < chunk.length; at += 1024) {
          if (!(await this.#answer(socket, chunk.toString('utf8', at, at + 1024)))) return;
        }
      }
    } catch {
      // So does a broken connection.
    }
    socket.end();
  }

  /** Answers one request; false if that ended the connection. */
  async #answer(socket: Socket, request: string): Promise<boolean> {
    const fields = JSON.parse(request) as Record<string, unknown>;
    const argv = fields['argv'] as string[];
    this.requests.push(argv.slice(1).join(' '));
    this.#atOnce += 1;
    this.mostAtOnce = Math.max(this.mostAtOnce, this.#atOnce);
    const behaviour = await this.#decide(argv, fields);
    this.#atOnce -= 1;
    if (behaviour === 'die') socket.destroy();
    else socket.write(Buffer.isBuffer(behaviour) ? behaviour : `${JSON.stringify(behaviour)}\n`);
    return behaviour !== 'die';
  }
}

/** A broker with its socket, and the events that it emitted. */
export type Guest = Awaited<ReturnType<typeof startGuest>>;

/** Starts a broker on a socket in a temporary folder; it ends with the test. */
export async function startGuest(t: ExecutionContext, options: StorageBrokerOptions = {}) {
  const folder = temporaryFolder(t);
  const path = join(folder, 'storage.sock');
  const broker = new StorageBroker(options);
  const calls: StorageCallRecord[] = [];
  const changes: StorageEmulatorChange[] = [];
  broker.on('call', (call) => calls.push(call));
  broker.on('emulator', (change) => changes.push(change));
  await broker.listen(path);
  t.teardown(() => broker.close());
  return { broker, path, folder, calls, changes, ...callsAt(path) };
}

/** Calls by wrappers in this process: their replies, and their output. */
export function callsAt(path: string) {
  const call = (...args: string[]) =>
    callStorage({ argv: ['/usr/sbin/storcli64', ...args], socketPaths: [path], timeoutMs: 60_000 });
  return { call, print: async (...args: string[]) => (await call(...args)).stdout.toString() };
}

/** A peer's service that is an emulator listening on a port, reached as through an incoming forward. */
export function peerAt(port: number): StoragePeerService {
  return { isOffered: () => true, open: () => createConnection({ host: '127.0.0.1', port, allowHalfOpen: true }) };
}

/** A port whose connections are attached to the broker, like those of an outgoing forward. Closed with the test. */
export async function attachPort(t: ExecutionContext, { broker }: Guest): Promise<number> {
  return (await localServer(t, (socket) => broker.emulators.attach(socket))).port;
}

export const WRAPPER = join(PROJECT_ROOT, 'dist/program/vproxy-storage.cjs');

/** Runs the real wrapper through a link called `storcli64`; `command` (default: the link) may start it otherwise. */
export async function runWrapper(
  folder: string,
  args: readonly string[],
  environment: Record<string, string> = {},
  command?: readonly [string, ...string[]],
): Promise<{ readonly stdout: Buffer; readonly stderr: string; readonly status: number | null }> {
  const link = join(folder, 'storcli64');
  await symlink(WRAPPER, link).catch(() => undefined);
  const [program, ...first] = command ?? [link];
  const path = `${folder}:${dirname(process.execPath)}:${process.env['PATH'] ?? ''}`;
  const env = { PATH: path, VPROXY_STORAGE_SOCKET: join(folder, 'storage.sock'), ...environment };
  const child = spawn(program, [...first, ...args], { env, cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
  const closed = once(child, 'close') as Promise<[number | null]>;
  const [stdout, stderr, [status]] = await Promise.all([buffer(child.stdout), text(child.stderr), closed]);
  return { stdout, stderr, status };
}
