/** Datagrams through two real processes: beside a bulk transfer, over TLS, and across an upgrade. */
import { readFileSync } from 'node:fs';
import { Writable } from 'node:stream';
import test, { type ExecutionContext } from 'ava';
import type { ControlClient } from '../../lib/control/client/client.js';
import type { DatagramCounts } from '../../lib/status/types.js';
import type { PairSetup } from '../helpers/process-pair.js';
import { processPair } from '../helpers/process-pair.js';
import { localServer, localSocket } from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';
import { UdpProgram } from '../helpers/udp.js';
import { upgrade } from '../helpers/upgrades.js';

const QUESTIONS = 10_000;

/** A host that forwards datagrams to the guest's target at `port`. */
async function sidesOf(t: ExecutionContext, target: number, { host = [], guest = [], ...setup }: PairSetup = {}) {
  const {
    host: listening,
    sockets,
    clients,
  } = await processPair(t, {
    ...{ ...setup, control: 'both' },
    host: ['-o', 'dns:udp:127.0.0.1:0', ...host],
    guest: ['-i', `dns:udp:127.0.0.1:${target}`, ...guest],
  });
  return { listening, sockets, clients, port: await listening.listeningPort('dns') };
}

/** The counters of a process's forward of datagrams. */
async function countsOf(client: ControlClient): Promise<DatagramCounts> {
  const found = (await client.forwards()).find(({ datagrams }) => datagrams !== null)?.datagrams;
  if (found === undefined || found === null) throw new Error('no forward of datagrams');
  return found;
}

/** The datagrams that the kernel dropped at these ports of the programs because their buffers were full. */
function kernelDrops(ports: readonly number[]): number {
  const lines = readFileSync('/proc/net/udp', 'utf8').split('\n').slice(1);
  const fields = lines.map((line) => line.trim().split(/\s+/));
  return fields
    .filter(([, local = '']) => ports.includes(Number.parseInt(local.split(':')[1] ?? '', 16)))
    .reduce((sum, each) => sum + Number(each.at(-1)), 0);
}

test('10,000 questions beside a bulk transfer: each is answered, or counted where it was lost', async (t) => {
  const target = await UdpProgram.openEcho(t);
  let isOver = false;
  const sink = await localServer(t, (socket) => void socket.pipe(new Writable({ write: (_, __, done) => done() })));
  const more = { host: ['-o', 'bulk:0'], guest: ['-i', `bulk:${sink.port}`] };
  const { port, listening, clients } = await sidesOf(t, target.port, more);
  const bulk = localSocket(t, await listening.listeningPort('bulk'));
  const chunk = Buffer.alloc(1 << 20);
  const write = (): void => {
    while (!isOver && bulk.write(chunk));
  };
  bulk.on('drain', write);
  write();

  const client = await UdpProgram.open(t);
  let answered = 0;
  let sent = 0;
  const ask = (): void => {
    if (sent >= QUESTIONS) return;
    sent += 1;
    client.send(Buffer.alloc(40 + (sent % 80), sent % 256), port);
  };
  client.onMessage = () => {
    answered += 1;
    ask();
  };
  // Some are always in flight; if all of them were lost, others are sent.
  for (let count = 0; count < 64; count += 1) ask();
  let seen = -1;
  await eventually(
    () => {
      if (sent >= QUESTIONS && answered === seen) return true;
      if (answered === seen) for (let count = 0; count < 64; count += 1) ask();
      seen = answered;
      return false;
    },
    { intervalMs: 500, timeoutMs: 60_000, what: `${QUESTIONS} questions, of which ${sent} were sent` },
  );
  isOver = true;
  const drops = kernelDrops([target.port, client.port]);
  const { host, guest } = await eventually(
    async () => {
      const [host, guest] = [await countsOf(clients[0]), await countsOf(clients[1])];
      const lost = [host, guest].map(({ sendDropped, receiveDropped }) => sendDropped + receiveDropped);
      return answered + drops + lost.reduce((sum, count) => sum + count) === QUESTIONS && { host, guest };
    },
    { what: 'that every question was answered, or its loss is counted' },
  );
  t.log({ answered, drops, host, guest });
  t.is(host.sent, guest.received + guest.receiveDropped, 'what went through the channel');
  t.is(guest.sent, host.received + host.receiveDropped, 'and back');
  // How many expire in the queue depends on the machine.
  t.true(answered > QUESTIONS / 2, String(answered));
  t.true(bulk.bytesWritten > 2 ** 26, 'the bulk went on meanwhile');
});

test('an upgrade ends flows, and the next message starts them again at the same address; none is refused', async (t) => {
  const target = await UdpProgram.openEcho(t);
  const { port, sockets, clients: controls } = await sidesOf(t, target.port);
  const clients = await Promise.all(Array.from({ length: 5 }, () => UdpProgram.open(t)));
  const askAll = async (text: string): Promise<void> => {
    for (const client of clients) {
      const before = client.messages.length;
      // A question between two processes may be lost, as any datagram.
      await eventually(
        () => {
          if (client.messages.length > before) return true;
          client.send(text, port);
          return false;
        },
        { intervalMs: 100, what: `an answer to ${text}` },
      );
    }
  };
  await askAll('before');
  const first = await upgrade(t, sockets[0]);
  t.is(first.listeners, 3);
  await askAll('behind the upgrade of the host');
  await upgrade(t, sockets[1]);
  await askAll('behind that of the guest');
  for (const client of controls) {
    const streams = await client.streams();
    t.is(streams.filter(({ datagrams }) => datagrams !== null).length, clients.length);
  }
});
