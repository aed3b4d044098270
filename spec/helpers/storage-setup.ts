/** What the storage specs share: waiting for a condition, a guest with a broker, the wrapper as a process. */
import { spawn } from 'node:child_process';
import { symlink } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { dirname, join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';
import { StorageBroker, type StorageBrokerOptions, type StorageCallRecord } from '../../lib/storage/broker.js';
import type { StorageEmulatorChange, StoragePeerService } from '../../lib/storage/emulator-pool.js';
import type { StorageReply } from '../../lib/storage/wire.js';
import { callStorage } from '../../lib/storage/wrapper.js';
import { temporaryFolder } from './files.js';
import { localServer } from './local-server.js';
import { eventually } from './time.js';

/** The compiled wrapper. */
export const WRAPPER = fileURLToPath(new URL('../../program/vproxy-storage.cjs', import.meta.url));

/** Resolves when the condition holds; rejects with its text when it never does. */
export async function until(condition: () => boolean): Promise<void> {
  await eventually(condition, { intervalMs: 2, what: condition.toString() });
}

/** A broker with its socket, and the events that it emitted. */
export interface Guest {
  readonly broker: StorageBroker;
  readonly path: string;
  readonly folder: string;
  readonly calls: StorageCallRecord[];
  readonly changes: StorageEmulatorChange[];
  /** A call by a wrapper in this process. */
  call(...args: string[]): Promise<StorageReply>;
}

/** Starts a broker on a socket in a temporary folder; it ends with the test. */
export async function startGuest(t: ExecutionContext, options: StorageBrokerOptions = {}): Promise<Guest> {
  const folder = temporaryFolder(t);
  const path = join(folder, 'storage.sock');
  const broker = new StorageBroker(options);
  const calls: StorageCallRecord[] = [];
  const changes: StorageEmulatorChange[] = [];
  broker.on('call', (call) => calls.push(call));
  broker.on('emulator', (change) => changes.push(change));
  await broker.listen(path);
  t.teardown(() => broker.close());
  const call = (...args: string[]) =>
    callStorage({ argv: ['/usr/sbin/storcli64', ...args], socketPaths: [path], timeoutMs: 60_000 });
  return { broker, path, folder, calls, changes, call };
}

/** What calls print, when all of them have their replies. */
export const outputsOf = async (calls: readonly Promise<StorageReply>[]): Promise<string[]> =>
  (await Promise.all(calls)).map(({ stdout }) => stdout.toString());

/** A peer's service that is an emulator listening on a port, reached as an incoming forward would reach it. */
export function peerAt(port: number): StoragePeerService {
  return { isOffered: () => true, open: () => createConnection({ host: '127.0.0.1', port, allowHalfOpen: true }) };
}

/** A port whose connections are attached to the broker, as those of an outgoing forward are. Closed with the test. */
export async function attachPort(t: ExecutionContext, broker: StorageBroker): Promise<number> {
  return (await localServer(t, (socket) => broker.emulators.attach(socket))).port;
}

/** How a wrapper process ended. */
export interface WrapperRun {
  readonly stdout: Buffer;
  readonly stderr: string;
  readonly status: number | null;
}

/** Runs the real wrapper through a link called `storcli64`; `command` (default: the link) may start it otherwise. */
export async function startWrapper(
  folder: string,
  args: readonly string[],
  environment: Record<string, string> = {},
  command?: readonly [string, ...string[]],
): Promise<{ pid: number; link: string; kill(): void; stdout: NodeJS.ReadableStream; done: Promise<WrapperRun> }> {
  const link = join(folder, 'storcli64');
  await symlink(WRAPPER, link).catch(() => undefined);
  const [program, ...first] = command ?? [link];
  const path = `${folder}:${dirname(process.execPath)}:${process.env['PATH'] ?? ''}`;
  const env = { PATH: path, VPROXY_STORAGE_SOCKET: join(folder, 'storage.sock'), ...environment };
  const child = spawn(program, [...first, ...args], { env, cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
  const exit = new Promise<number | null>((resolve, reject) => {
    child.once('close', resolve).once('error', reject);
  });
  const errors = buffer(child.stderr);
  return {
    pid: child.pid ?? 0,
    link,
    kill: () => child.kill('SIGKILL'),
    stdout: child.stdout,
    done: (async () => {
      const output = buffer(child.stdout);
      return { stdout: await output, stderr: (await errors).toString(), status: await exit };
    })(),
  };
}

/** Runs the real wrapper to its end. */
export async function runWrapper(...parameters: Parameters<typeof startWrapper>): Promise<WrapperRun> {
  return (await startWrapper(...parameters)).done;
}
