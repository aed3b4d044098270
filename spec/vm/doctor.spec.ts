/** `vproxy doctor` beside a real virtio-serial port and a real QEMU: what no other device does is tested here. */
import { once } from 'node:events';
import { connect } from 'node:net';

import test, { type ExecutionContext } from 'ava';

import type { Diagnosis } from '../../cli/doctor/diagnosis.js';
import type { FindingId } from '../../cli/doctor/findings.js';
import { pretend } from '../helpers/machines.js';
import { eventually } from '../helpers/time.js';
import { runVproxy } from '../helpers/vproxy-process.js';
import { eventuallyInGuest } from './rig/agent.js';
import { PORT_PATH } from './rig/guest.js';
import type { GuestJob } from './rig/guest-job.js';
import { PORT_NAME } from './rig/guest-options.js';
import { GUEST_VPROXY } from './rig/initramfs.js';
import { useGuest } from './rig/use-guest.js';

const guest = useGuest(test);

interface Answer {
  readonly ok: boolean;
  readonly findings: readonly Diagnosis[];
}

/** What it finds in the guest; on an emulated processor, too, it must stay within its time limits. */
async function inGuest(...args: readonly string[]): Promise<Answer> {
  const { stdout, stderr } = await guest().agent.run(`node ${GUEST_VPROXY} doctor --json ${args.join(' ')}`);
  if (stderr !== '') throw new Error(stderr);
  return JSON.parse(stdout) as Answer;
}

function messageOf(t: ExecutionContext, { findings }: Answer, id: FindingId): string {
  const found = findings.find((one) => one.id === id);
  if (found === undefined) t.fail(findings.map((one) => `${one.id}: ${one.message}`).join('\n'));
  return found.message;
}

/** A silent program at the host's end. */
async function joinPort(t: ExecutionContext): Promise<void> {
  const socket = connect(guest().channelPath);
  await once(socket, 'connect');
  t.teardown(async () => {
    const closed = once(socket, 'close');
    socket.destroy();
    await closed;
  });
}

/** Something in the guest has the port open until the end of the test. */
async function takePort(t: ExecutionContext): Promise<GuestJob> {
  const job = await guest().agent.spawn(['sh', '-c', `exec 3<>${PORT_PATH}; exec sleep 1000`]);
  t.teardown(() => job.kill('KILL').catch(() => undefined));
  await eventuallyInGuest(() => guest().agent.output(`readlink /proc/${job.pid}/fd/3`), { what: 'an open port' });
  return job;
}

test.serial('without arguments the guest is known by its ports', async (t) => {
  t.regex(messageOf(t, await inGuest(), 'ports-found'), new RegExp(`${PORT_NAME} \\(vport\\d+p1\\)`));
});

test.serial('a port without a host is found as one, and one with a host', async (t) => {
  const answer = await inGuest('-c', `virtserial-open:${PORT_PATH}`);
  t.regex(messageOf(t, answer, 'port-no-host'), /nobody has its end on the host open/);
  t.true(answer.ok);
  await joinPort(t);
  await eventuallyInGuest(async () => {
    const { findings } = await inGuest('-c', `virtserial-open:${PORT_NAME}`);
    return findings.some(({ id }) => id === 'port-host');
  });
});

test.serial(
  'a port that another program has is busy, and the program is named, unless nobody is seen to have it',
  async (t) => {
    const { pid } = await takePort(t);
    const answer = await inGuest('-c', `virtserial-open:${PORT_PATH}`);
    t.regex(messageOf(t, answer, 'port-busy'), new RegExp(`open in process ${pid} \\(sleep`));
    t.false(answer.ok);
    // Another process list than the one of the program that has it.
    const command = `mount -t tmpfs none /proc && node ${GUEST_VPROXY} doctor --json -c virtserial-open:${PORT_PATH}`;
    const { stdout } = await guest().agent.run(`unshare -m sh -c '${command}'`);
    t.regex(messageOf(t, JSON.parse(stdout) as Answer, 'port-busy'), /cannot be seen/);
  },
);

test.serial('names that are misspelt or missing, and a link that udev has not made, are told apart', async (t) => {
  const names = await inGuest('-c', 'a=virtserial-open:org.vproxi.0', '-c', 'b=virtserial-open:com.redhat.spice.0');
  t.regex(messageOf(t, names, 'port-misspelt'), new RegExp(`there is ${PORT_NAME}`));
  t.regex(messageOf(t, names, 'port-missing'), new RegExp(PORT_NAME));
  const device = await guest().agent.output(`readlink -f ${PORT_PATH}`);
  await guest().agent.output(`rm ${PORT_PATH}`);
  t.teardown(() => guest().agent.output(`ln -s ${device} ${PORT_PATH}`));
  const answer = await inGuest('-c', `virtserial-open:${PORT_PATH}`);
  t.regex(messageOf(t, answer, 'port-no-link'), new RegExp(device));
  messageOf(t, answer, 'port-no-host');
});

test.serial('a vproxy that has the port is left alone', async (t) => {
  const channel = ['-c', `virtserial-open:${PORT_PATH}`];
  const job = await guest().agent.spawn([
    'node',
    GUEST_VPROXY,
    ...channel,
    '--name',
    'guest1',
    '--control',
    '/run/c.sock',
  ]);
  t.teardown(() => job.kill('KILL').catch(() => undefined));
  await eventuallyInGuest(async () => /taking control requests/.test(await job.log()), {
    what: 'a vproxy in the guest',
  });
  // The first request is slow there.
  await guest().agent.output(`node ${GUEST_VPROXY} status --socket /run/c.sock`);
  const answer = await inGuest(...channel, '--socket', '/run/c.sock');
  t.regex(messageOf(t, answer, 'held-by-vproxy'), new RegExp(`vproxy guest1 \\(process ${job.pid}\\)`));
  t.false(answer.findings.some(({ id }) => id.startsWith('port-')));
});

test.serial('on the host, QEMU is named, and whoever is connected to it', async (t) => {
  const args = ['doctor', '--json', '-c', `unix-connect:${guest().channelPath}`];
  const free = JSON.parse((await runVproxy(args)).stdout) as Answer;
  t.regex(messageOf(t, free, 'socket-listens'), /process \d+ \(qemu-system-x86/);
  t.true(free.ok);
  await pretend(t, { program: 'minicom', connect: guest().channelPath, isQueued: true });
  const taken = await eventually(async () => {
    const answer = JSON.parse((await runVproxy(args)).stdout) as Answer;
    return answer.findings.some(({ id }) => id === 'socket-taken') ? answer : null;
  });
  t.regex(messageOf(t, taken, 'socket-taken'), /^process \d+ \(minicom.*\) is connected to process \d+ \(qemu/);
});
