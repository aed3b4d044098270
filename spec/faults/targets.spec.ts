/** Targets that refuse, hang, or reset: the opener's socket is reset with a reason in the log, and other streams go on. */
import test from 'ava';
import { freePort, hangingPort } from '../helpers/ports.js';
import { descriptorCount, processPair } from '../helpers/process-pair.js';
import { echo, failureOf, localServer, localSocket, readToEnd } from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';
import { outcomeOf, pattern } from '../helpers/traffic.js';

const LOOPBACK = '127.0.0.1';

test('a target that refuses resets the connection, and both logs say why', async (t) => {
  const { host, guest } = await processPair(t, { host: ['-o', 'x:0'], guest: ['-i', `x:${await freePort()}`] });
  const socket = localSocket(t, { host: LOOPBACK, port: await host.listeningPort('x') });
  t.is((await failureOf(socket)).code, 'ECONNRESET');
  for (const side of [host, guest]) t.truthy(await side.waitForLine(/ECONNREFUSED.*\(connect-refused\)/));
});

test('a target that hangs is given up after its time, holds up no other stream, and leaves nothing behind', async (t) => {
  const target = await localServer(t, echo);
  const { host, guest } = await processPair(t, {
    host: ['-o', 'hangs:0', '-o', 'echo:0'],
    guest: ['-i', `hangs:${await hangingPort(t)}`, '-i', `echo:${target.port}`],
  });
  const before = descriptorCount(guest);
  const port = await host.listeningPort('hangs');
  const [patient, impatient] = [localSocket(t, { host: LOOPBACK, port }), localSocket(t, { host: LOOPBACK, port })];
  const failure = failureOf(patient);
  patient.write('hello');
  impatient.write('hello');
  await eventually(() => descriptorCount(guest) === before + 2, { what: 'two dials' });
  impatient.resetAndDestroy();
  await eventually(() => descriptorCount(guest) === before + 1, { what: 'the end of one dial' });
  const socket = localSocket(t, { host: LOOPBACK, port: await host.listeningPort('echo') });
  socket.end('meanwhile');
  t.is((await readToEnd(socket)).toString(), 'meanwhile');
  t.is((await failure).code, 'ECONNRESET');
  await host.waitForLine(/did not answer within 10 s \(connect-timeout\)/);
  await eventually(() => descriptorCount(guest) === before);
});

test('a target that resets in the middle resets the connection behind a prefix', async (t) => {
  const target = await localServer(t, (socket) => {
    socket.write(pattern(500_000), () => socket.resetAndDestroy());
  });
  const { host } = await processPair(t, { host: ['-o', 'x:0'], guest: ['-i', `x:${target.port}`] });
  const port = await host.listeningPort('x');
  const outcomes = await Promise.all(
    Array.from({ length: 20 }, () => outcomeOf(localSocket(t, { host: LOOPBACK, port }))),
  );
  for (const outcome of outcomes) {
    const { end, receivedBytes, isPrefix } = outcome;
    t.true(isPrefix && end === 'reset' && receivedBytes <= 500_000, JSON.stringify(outcome));
  }
});
