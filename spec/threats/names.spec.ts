/** T7, T8, T9, T11, T17: a guest's addresses, paths, commands, codes and openings mean nothing on the host. */
import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { startControl } from '../helpers/control.js';
import { temporaryFolder } from '../helpers/files.js';
import { echo, localServer, localSocket, proxyPair, readToEnd, TestProxy } from '../helpers/proxies.js';
import { SocketPeer } from '../helpers/socket-peer.js';
import { CLEAR_HELLO, helloOf } from './middle.js';

const { OPEN, DATA, FIN, GOAWAY } = FRAME_TYPE;

/** Everything in a folder, recursively. */
const filesIn = (folder: string): string[] => (readdirSync(folder, { recursive: true }) as string[]).sort();

/** A host with these services, and a hand-driven guest. */
async function guestAt(t: ExecutionContext, path: string, incoming: string[], fields = {}) {
  await new TestProxy(t, `unix-listen:${path}`, { incoming, outgoing: ['own:0'] }).start();
  const peer = new SocketPeer({ path });
  t.teardown(() => peer.close());
  await peer.establish(fields);
  const open = async (service: string, from: string, answer: 'ACCEPT' | 'REFUSE'): Promise<number> => {
    const id = peer.highestId + 2;
    peer.send(OPEN, id, { service, from });
    await peer.seen(new RegExp(`^${answer} ${id}${answer === 'REFUSE' ? ' unknown-service' : ''}$`));
    return id;
  };
  return {
    peer,
    refuses: async (from: string, services: readonly string[]): Promise<void> => {
      for (const service of services) await open(service, from, 'REFUSE');
    },
    /** The answer of a service to an input. */
    gives: async (from: string, service: string, input: string): Promise<string> => {
      const id = await open(service, from, 'ACCEPT');
      peer.sendData(id, input);
      peer.send(FIN, id);
      await peer.seen(new RegExp(`^FIN ${id}$`));
      const data = peer.log.frames.filter(({ type, streamId }) => type === DATA && streamId === id);
      return Buffer.concat(data.map(({ payload }) => payload)).toString();
    },
  };
}

test('T7: a guest names a service, never an address: whatever it names, only offered services are reached', async (t) => {
  const folder = temporaryFolder(t);
  let strangeConnections = 0;
  const count = () => void (strangeConnections += 1);
  const { port } = await localServer(t, count);
  const socketCanary = join(folder, 'canary.sock');
  await localServer(t, count, { path: socketCanary });
  const target = await localServer(t, echo);
  const guest = await guestAt(t, join(folder, 'channel.sock'), [`echo:${target.port}`]);
  await guest.refuses(`127.0.0.1:${port}`, [
    ...[`127.0.0.1:${port}`, `localhost:${port}`, `[::1]:${port}`, `tcp:127.0.0.1:${port}`, `${port}`, `:${port}`],
    ...[`echo:127.0.0.1:${port}`, `echo:${port}`, '169.254.169.254:80', socketCanary, `unix:${socketCanary}`],
    ...['__proto__', 'constructor', 'toString', 'hasownproperty', 'prototype', 'own', 'storage', '*', ''],
    ...['ECHO', 'echo ', ' echo', 'echo\0', 'echo\n', 'echo/', './echo', '../echo'],
    ...['ec\u200bho', '\u0435cho', '\uff45cho', 'x'.repeat(64), 'x'.repeat(65), 'e'.repeat(3000)],
  ]);
  t.is(strangeConnections, 0);
  await guest.peer.echo();
});

test('T8: no path sent by a guest is used on the host: not in its name, in a service, or in an origin', async (t) => {
  const folder = temporaryFolder(t);
  const inner = join(folder, 'a', 'b');
  mkdirSync(inner, { recursive: true });
  const evil = '../../evil';
  const services = [`syslog:file:${join(inner, 'guest.log')}`];
  const guest = await guestAt(t, join(inner, 'channel.sock'), services, { name: evil, agent: evil });
  const before = filesIn(folder);
  t.deepEqual(before, ['a', 'a/b', 'a/b/channel.sock']);
  const paths = [evil, '/tmp/evil', `file:${folder}/evil`, `syslog:file:${folder}/evil`, '..', '.', 'a/../../x'];
  await guest.refuses(evil, paths);
  t.deepEqual(filesIn(folder), before);
  await guest.gives('/../../evil', 'syslog', 'a line\n');
  t.deepEqual(filesIn(folder), [...before, 'a/b/guest.log'].sort());
});

test('T9: a guest runs no command: its bytes are only input of the command that the operator wrote', async (t) => {
  const folder = temporaryFolder(t);
  const guest = await guestAt(t, join(folder, 'channel.sock'), ['run:exec:cat; env | wc -l']);
  const before = filesIn(folder);
  const poison = `$(touch ${folder}/x)\`touch ${folder}/x\`;touch ${folder}/x\n'"|touch ${folder}/x`;
  await guest.refuses(poison, [poison, 'exec', 'exec:id', 'sh', 'run:exec:id', 'run;id']);
  const output = await guest.gives(poison, 'run', poison);
  t.true(output.startsWith(poison), output);
  t.deepEqual(filesIn(folder), before);
});

test('T11: sessions that end with ever new codes from the peer are one series', async (t) => {
  const path = join(temporaryFolder(t), 'channel.sock');
  const host = new TestProxy(t, `unix-listen:${path}`);
  await host.start();
  const control = await startControl(t, host.proxy);
  const names = async (): Promise<string[]> => {
    const { text } = await control.ask('GET', '/metrics');
    return text.split('\n').flatMap((line) => /^[a-z_]+\{.*\}/.exec(line) ?? []);
  };
  for (let count = 0; count < 6; count += 1) {
    const since = host.events.length;
    const peer = await SocketPeer.established(path);
    peer.send(GOAWAY, 0, { code: `evil-${count}`, message: '', last: 0 });
    await host.event('session-ended', since);
    peer.close();
    const series = await names();
    const isNamed = series.some((name) => name.includes('evil'));
    t.false(isNamed, series.join('\n'));
    const ended = series.filter((name) => name.includes('code='));
    t.is(ended.length, 1);
  }
});

test('T17: the opening of a session is carried like any bytes on a stream, at every offset in its frames', async (t) => {
  const server = await localServer(t, echo);
  const { a, b } = await proxyPair(t, { targets: `echo:${server.port}` });
  const opening = Buffer.concat([Buffer.alloc(131_088), helloOf(CLEAR_HELLO)]);
  for (let shift = 0; shift < 20; shift += 1) {
    const bytes = Buffer.concat([Buffer.alloc(shift * 7, 'x'), opening, helloOf(CLEAR_HELLO), opening]);
    const socket = localSocket(t, { host: '127.0.0.1', port: a.port('echo') });
    const answer = readToEnd(socket);
    socket.end(bytes);
    t.true((await answer).equals(bytes), `shifted by ${shift * 7}`);
  }
  for (const { events } of [a, b]) t.false(events.some(({ event }) => event === 'session-ended'));
});
