/** Datagrams between a guest without a network and its host: the guest's syslogd, and questions to a program in it. */
import test from 'ava';
import { eventually } from '../helpers/time.js';
import { UdpProgram } from '../helpers/udp.js';
import { HostSide } from './rig/host-side.js';
import { useLaboratory } from './rig/use-laboratory.js';

const SYSLOG_PORT = 514;
const ECHO_PORT = 5300;
const LINES = 200;

const undo: (() => unknown)[] = [];
const collector = await UdpProgram.open({ teardown: (act) => void undo.push(act) });

const laboratory = useLaboratory(test, {
  host: ({ channelPath }) =>
    HostSide.start(`unix-connect:${channelPath}`, [
      ...['-i', `syslog:udp:127.0.0.1:${collector.port}`],
      ...['-o', 'guest-questions:udp:127.0.0.1:0'],
    ]),
  guestArgs: ({ portPath }) => [
    ...['-c', `virtserial-open:${portPath}`],
    ...['-o', `syslog:udp:127.0.0.1:${SYSLOG_PORT}`],
    ...['-i', `guest-questions:udp:127.0.0.1:${ECHO_PORT}`],
  ],
});

test.after.always('the collector is closed', () => {
  for (const act of undo) act();
});

test.serial('what the guest logs with busybox’s syslogd arrives at a collector on the host', async (t) => {
  t.timeout(120_000);
  const { agent } = laboratory().guest;
  const syslogd = await agent.spawn(['busybox', 'syslogd', '-n', '-R', `127.0.0.1:${SYSLOG_PORT}`, '-O', '/tmp/log']);
  await agent.output('until test -S /dev/log; do sleep 0.1; done', { timeoutMs: 20_000 });
  // Slowly enough that no queue on the way is full.
  const write = `i=0; while [ $i -lt ${LINES} ]; do i=$((i+1)); busybox logger -t spec "line $i of a guest"; done`;
  await agent.output(write, { timeoutMs: 60_000 });
  const last = new RegExp(`line ${LINES} of a guest$`, 'm');
  await eventually(() => collector.texts.some((text) => last.test(text)), { what: 'the last line' });
  const numbers = collector.texts.flatMap((text) => /^<13>.* spec: line (\d+) of a guest\n?$/.exec(text)?.[1] ?? []);
  t.deepEqual(
    numbers.map(Number),
    Array.from({ length: LINES }, (_, index) => index + 1),
  );
  t.is(new Set(collector.messages.map(({ port }) => port)).size, 1, 'they are one flow');
  await agent.output(`kill ${syslogd.pid}`);
});

test.serial('a program of the host asks one of the guest, and each gets its own answers', async (t) => {
  t.timeout(120_000);
  const { guest, host } = laboratory();
  const script = `const s=require('dgram').createSocket('udp4');s.on('message',(m,f)=>s.send(m,f.port,f.address));s.bind(${ECHO_PORT},'127.0.0.1')`;
  const echo = await guest.agent.spawn(['node', '-e', script]);
  const port = await host.listeningPort('guest-questions');
  const clients = await Promise.all([UdpProgram.open(t), UdpProgram.open(t)]);
  for (const [index, client] of clients.entries()) {
    // Until the program in the guest is there, questions are lost.
    const isAnswered = (): boolean => {
      client.send(`hello ${index}`, port);
      return client.messages.length > 0;
    };
    await eventually(isAnswered, { intervalMs: 200, timeoutMs: 60_000, what: 'the first answer' });
    client.send(Buffer.alloc(65_507, index), port);
    await eventually(() => client.messages.some(({ bytes }) => bytes.length === 65_507), { what: 'a large answer' });
    t.true(client.messages.every(({ bytes }) => bytes.length === 65_507 || bytes.toString() === `hello ${index}`));
  }
  await guest.agent.output(`kill ${echo.pid}`);
});
