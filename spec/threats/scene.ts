/** A host and a guest on a TCP channel that leads through a man in the middle, and what reaches the program on the host. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { type Clock, systemClock } from '../../lib/util/clock.js';
import { makeCertificate } from '../helpers/certificates.js';
import { temporaryFolder } from '../helpers/files.js';
import { localServer, localSocket, readToEnd, TestProxy } from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';
import { Middle } from './middle.js';

/** How the two sides are protected. */
export type Protection = 'key' | 'tls=psk' | 'tls=cert';

export const PROTECTIONS: readonly Protection[] = ['key', 'tls=psk', 'tls=cert'];

/** Writes a key of these two digits, repeated, and returns its path. */
export function writeKey(folder: string, name: string, digits: string): string {
  const path = join(folder, name);
  writeFileSync(path, `${digits.repeat(32)}\n`, { mode: 0o600 });
  return path;
}

export interface Scene {
  readonly folder: string;
  readonly host: TestProxy;
  readonly guest: TestProxy;
  readonly middle: Middle;
  /** Where the host listens for the channel. */
  readonly hostPort: number;
  /** What came to the target of the host's service, by connection. */
  readonly reached: Buffer[][];
}

interface SceneOptions {
  /** The guest's key where it is another one. */
  readonly guestDigits?: string;
  /** Default: the system's. */
  readonly clock?: Clock;
  /** Whether sessions outlive their links. Default: they do not, so that what an attack does to them is seen at once. */
  readonly canResume?: boolean;
}

/** Starts both sides; nothing is attacked yet. */
export async function startScene(
  t: ExecutionContext,
  how: Protection | 'none',
  { guestDigits = '1f', canResume = false, clock = systemClock }: SceneOptions = {},
): Promise<Scene> {
  const folder = temporaryFolder(t);
  const reached: Buffer[][] = [];
  const target = await localServer(t, (socket) => {
    const chunks: Buffer[] = [];
    reached.push(chunks);
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    socket.pipe(socket);
  });
  const keys = {
    host: { keyFiles: [writeKey(folder, 'host-psk.key', '1f')] },
    guest: { keyFiles: [writeKey(folder, 'guest-psk.key', guestDigits)] },
  };
  if (how === 'tls=cert') for (const side of ['host', 'guest']) makeCertificate(folder, side);
  const options = (own: string, other: string): string => {
    const resume = canResume ? ',resume=1m' : ',resume=0';
    if (how === 'key' || how === 'none') return resume;
    if (how === 'tls=psk') return `${resume},tls=psk`;
    const file = (name: string) => join(folder, name);
    return `${resume},tls=cert,ca=${file(`${other}-ca.pem`)},cert=${file(`${own}.pem`)},key=${file(`${own}.key`)}`;
  };
  const keysOf = (side: 'host' | 'guest') => (how === 'tls=cert' || how === 'none' ? {} : keys[side]);
  const host = new TestProxy(t, `tcp-listen:127.0.0.1:0${options('host', 'guest')}`, {
    name: 'host',
    clock,
    incoming: [`echo:${target.port}`],
    ...keysOf('host'),
  });
  await host.start();
  const hostPort = listeningPort(host);
  const middle = await Middle.start(t, hostPort);
  const guest = new TestProxy(t, `tcp-connect:127.0.0.1:${middle.port}${options('guest', 'host')}`, {
    name: 'guest',
    clock,
    outgoing: ['echo:0'],
    waitMs: 30_000,
    ...keysOf('guest'),
  });
  return { folder, host, guest, middle, hostPort, reached };
}

/** Where a side listens for its channel. */
export function listeningPort({ events }: TestProxy): number {
  const event = events.find(({ event: name }) => name === 'channel-listening');
  return Number(/:(\d+)$/.exec(event?.message ?? '')?.[1]);
}

/** How many sessions a side has had. */
export const sessionCount = ({ proxy }: TestProxy): number => proxy.channel('default').history.sessions;

/** The codes with which sessions of a side have ended, after the first `since` events. */
export function endCodes({ events }: TestProxy, since = 0): unknown[] {
  return events.flatMap(({ event, fields }, index) =>
    event === 'session-ended' && index >= since ? [fields['code']] : [],
  );
}

/** Sends a text through the service, and returns what comes back. */
export async function echoThrough(t: ExecutionContext, { guest }: Scene, text: string): Promise<string> {
  const socket = localSocket(t, { host: '127.0.0.1', port: guest.port('echo') });
  const answer = readToEnd(socket);
  socket.end(text);
  return (await answer).toString();
}

/** An attack had no effect: no session on either side, and no byte at the program. */
export function assertRefused(t: ExecutionContext, { host, guest, reached }: Scene): void {
  t.deepEqual([sessionCount(host), sessionCount(guest)], [0, 0], 'a session was established in the attack');
  t.deepEqual(reached, [], 'a byte reached the program in the attack');
}

/** The attacker stops; both sides have their session back, and streams on it. */
export async function assertComesBack(t: ExecutionContext, scene: Scene): Promise<void> {
  const { host, guest, middle } = scene;
  middle.behave();
  const isBack = () => {
    guest.proxy.retryNow();
    return [host, guest].every(({ proxy }) => proxy.channel('default').state === 'established');
  };
  await eventually(isBack, { intervalMs: 50, what: 'the session after the attack' });
  t.is(await echoThrough(t, scene, 'still here'), 'still here');
  const [last] = scene.reached.at(-1) ?? [];
  t.is(last?.toString(), 'still here');
  for (const { events } of [host, guest]) t.false(JSON.stringify(events).includes('1f1f1f1f'), 'a key was shown');
}
