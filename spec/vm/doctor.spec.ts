/** `vproxy doctor` with a real virtio-serial port and a real QEMU: what takes these devices is tested here. */
import { once } from 'node:events';
import { connect } from 'node:net';
import test, { type ExecutionContext } from 'ava';
import type { Diagnosis } from '../../cli/doctor/diagnosis.js';
import type { Finding } from '../../cli/doctor/findings.js';
import { pretend } from '../helpers/machines.js';
import { eventually } from '../helpers/time.js';
import { runVproxy } from '../helpers/vproxy-process.js';
import { eventuallyInGuest } from './rig/agent.js';
import { PORT_PATH } from './rig/guest.js';
import { PORT_NAME } from './rig/guest-options.js';
import { GUEST_VPROXY } from './rig/initramfs.js';
import { useGuest } from './rig/use-guest.js';

const guest = useGuest(test);

interface Answer {
  readonly ok: boolean;
  readonly findings: readonly Diagnosis[];
}

const PORT = `-c virtserial-open:${PORT_PATH}`;

/** Runs it in the guest, whose emulated processor gets ample time for each check. */
async function inGuest(args: string, wrap = (command: string) => command): Promise<Answer> {
  const { stdout, stderr } = await guest().agent.run(wrap(`node ${GUEST_VPROXY} doctor --json --timeout 60 ${args}`));
  if (stderr !== '') throw new Error(stderr);
  return JSON.parse(stdout) as Answer;
}

async function onHost(): Promise<Answer> {
  const { stdout } = await runVproxy(['doctor', '--json', '-c', `unix-connect:${guest().channelPath}`]);
  return JSON.parse(stdout) as Answer;
}

const hasFound = ({ findings }: Answer, wanted: Finding['id']): boolean => findings.some(({ id }) => id === wanted);

function finds(t: ExecutionContext, { findings }: Answer, id: Finding['id'], message: string): void {
  const all = findings.map((one) => `${one.id}: ${one.message}`).join('\n');
  const messages = findings.flatMap((one) => (one.id === id ? one.message : []));
  t.regex(messages.join('\n'), new RegExp(message), all);
}

test.serial('ports are found by name; misspelt and missing ones, and those without a link, differ', async (t) => {
  finds(t, await inGuest(''), 'ports-found', `${PORT_NAME} \\(vport\\d+p1\\)`);
  const names = await inGuest('-c a=virtserial-open:org.vproxi.0 -c b=virtserial-open:com.redhat.spice.0');
  finds(t, names, 'channel-missing', `did you mean ${PORT_NAME}`);
  finds(t, names, 'channel-missing', `available: .*${PORT_NAME}`);
  const device = await guest().agent.output(`readlink -f ${PORT_PATH}; rm ${PORT_PATH}`);
  const unlinked = await inGuest(PORT);
  await guest().agent.output(`ln -s ${device} ${PORT_PATH}`);
  finds(t, unlinked, 'port-no-link', device);
  finds(t, unlinked, 'port-no-host', 'not open on the host');
  t.true((await inGuest(PORT)).ok);
});

test.serial('a port that the host has open is reported as such', async (t) => {
  const silent = connect(guest().channelPath);
  await once(silent, 'connect');
  await eventuallyInGuest(async () => hasFound(await inGuest(PORT), 'port-host'));
  silent.destroy();
  await once(silent, 'close');
  t.pass();
});

test.serial('a port that another program has is busy, and the program is named if it is visible', async (t) => {
  const { agent } = guest();
  const job = await agent.spawn(['sh', '-c', `exec 3<>${PORT_PATH}; exec sleep 1000`]);
  await eventuallyInGuest(() => agent.output(`readlink /proc/${job.pid}/fd/3`), { what: 'an open port' });
  const answer = await inGuest(PORT);
  finds(t, answer, 'channel-busy', `open in process ${job.pid} \\(sleep`);
  t.false(answer.ok);
  // Another process list than the one of the program that has it.
  const hidden = await inGuest(PORT, (command) => `unshare -m sh -c 'mount -t tmpfs none /proc && ${command}'`);
  finds(t, hidden, 'channel-busy', 'cannot be seen');
  await job.kill('KILL');
  await job.waitForEnd();
});

test.serial('a vproxy that has the port is left alone', async (t) => {
  const { agent } = guest();
  const words = ['node', GUEST_VPROXY, ...PORT.split(' '), '--name', 'guest1', '--control', '/run/c.sock'];
  const job = await agent.spawn(words);
  t.teardown(() => job.kill('KILL').catch(() => undefined));
  // The first request is slow there.
  await eventuallyInGuest(() => agent.output(`node ${GUEST_VPROXY} status --socket /run/c.sock`));
  const answer = await inGuest(`${PORT} --socket /run/c.sock`);
  finds(t, answer, 'held-by-vproxy', `vproxy guest1 \\(process ${job.pid}\\)`);
  t.false(answer.findings.some(({ id }) => id.startsWith('port-')));
});

test.serial('on the host, QEMU is named, and the process connected to it', async (t) => {
  const free = await onHost();
  finds(t, free, 'socket-listens', 'process \\d+ \\(qemu-system-x86');
  t.true(free.ok);
  await pretend(t, { program: 'minicom', connect: guest().channelPath, isQueued: true });
  const taken = await eventually(async () => {
    const answer = await onHost();
    return hasFound(answer, 'channel-busy') && answer;
  });
  finds(t, taken, 'channel-busy', '^process \\d+ \\(minicom.*\\) is already connected to process \\d+ \\(qemu');
});
