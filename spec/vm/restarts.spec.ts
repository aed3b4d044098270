/**
 * One guest: all uses of the channel at once, the guest's vproxy without a peer, and faults of one side or of the whole guest in
 * the middle of transfers. The other side stays, the session is re-established automatically, no stream ever has a wrong byte,
 * and afterwards everything works again. Finally, TLS on the channel, with a key that SMBIOS passes to the guest.
 */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { SecretKey } from '../../lib/session/opening/auth.js';
import type { ChannelStatus } from '../../lib/status/types.js';
import { openTerminal } from '../helpers/terminals.js';
import { within } from '../helpers/time.js';
import { ENDED, ESTABLISHED, runVproxy, VPROXY } from '../helpers/vproxy-process.js';
import { eventuallyInGuest } from './rig/agent.js';
import { GUEST_PORTS } from './rig/guest-ports.js';
import { HostSide } from './rig/host-side.js';
import { GUEST_CREDENTIALS } from './rig/init-script.js';
import { GUEST_VPROXY } from './rig/initramfs.js';
import { Laboratory } from './rig/laboratory.js';
import { disturb, endsOf, makeProgress, startTransfers, type Transfer } from './rig/transfer.js';
import { useGuest } from './rig/use-guest.js';
import { checkEssentials, checkEverything, checkSshTools } from './rig/uses.js';

const START_MS = 120_000;
const MIB = 1 << 20;
const FILE_BYTES = 16 * MIB;
const MEASURED_MS = 5_000;
/** A process that polls every millisecond or ten would do so hundreds of times. */
const WAKE_UPS = 100;
/** Longer than any timeout of vproxy that silence could trigger: the longest is 30 s for an incomplete frame (R-FLOW-9). */
const PAUSE_MS = 40_000;
const KEY = randomBytes(32).toString('hex');

let both: Laboratory;
const guest = useGuest(test, {
  plan: () => ({ credentials: { 'vproxy.key': Buffer.from(`${KEY}\n`) } }),
  whenFailed: () => (both as Laboratory | undefined)?.logs(),
});

const controlSocket = () => join(guest().folder, 'control.sock');
const onHost = (...words: readonly string[]) => runVproxy(words, { env: { VPROXY_SOCKET: controlSocket() } });

test.serial.before('both sides are started', async () => {
  both = await Laboratory.start(guest(), {
    host: ({ channelPath }) => HostSide.start(`unix-connect:${channelPath}`, ['--control', controlSocket()]),
    guestArgs: ({ portPath }) => ['-c', `virtserial-open:${portPath}`, '--allow-exec', '--allow-copy'],
  });
});

test.serial.after.always('both sides are stopped', () => (both as Laboratory | undefined)?.stop());

test.serial('storage, ssh, files, forwards both ways and 50 streams work over one port', async (t) => {
  await checkEverything(t, both, FILE_BYTES);
});

test.serial('commands, a terminal and copies work in the guest', async (t) => {
  const answer = await onHost('exec', '--', 'sh', '-c', 'uname -n; echo err >&2; exit 7');
  t.deepEqual(answer, { code: 7, stdout: 'guest\n', stderr: 'err\n' });
  const file = join(guest().folder, 'copied');
  writeFileSync(file, 'content');
  // A relative path begins in the home of the guest's user.
  t.like(await onHost('copy', file, 'default:'), { code: 0, stderr: '' });
  t.like(await onHost('exec', '-n', 'cat', '/root/copied'), { code: 0, stdout: 'content' });
  const terminal = await openTerminal(t, `${VPROXY} exec -t -- sh; echo "status $?"; cat`, {
    VPROXY_SOCKET: controlSocket(),
  });
  await terminal.shows(/[#$]\s*$/m, START_MS);
  await terminal.press('stty size; cat; exit 5', 'Enter');
  await terminal.shows(/^24 80$/m, START_MS);
  await terminal.press('C-d');
  await terminal.shows(/^status 5$/m, START_MS);
});

test.serial('rsync, scp, sftp and git work with vproxy-ssh', (t) =>
  checkSshTools(t, { VPROXY_SOCKET: controlSocket() }),
);

test.serial('a second vproxy on the port logs once that it is taken, and gets it when the first exits', async (t) => {
  const { host } = both;
  const from = host.lines.length;
  const second = await guest().agent.spawn(['node', GUEST_VPROXY, '-c', `virtserial-open:${guest().portPath}`]);
  const says = (pattern: RegExp) =>
    eventuallyInGuest(async () => pattern.test(await second.log()), { what: String(pattern) });
  await says(/another process has it open \(EBUSY\): process \d+ \(vproxy\) has it; retrying/);
  t.false(host.lines.slice(from).some((line) => ENDED.test(line)));
  await both.endGuestVproxy();
  await says(ESTABLISHED);
  t.is((await second.log()).split('(vproxy) has it').length, 2, await second.log());
  // SIGTERM also ends it while nothing arrives on the port.
  host.kill('SIGSTOP');
  t.teardown(() => host.kill('SIGCONT'));
  await second.kill('TERM');
  t.is(await second.waitForEnd(START_MS), 0);
  const again = host.lines.length;
  host.kill('SIGCONT');
  await both.startGuestVproxy();
  await both.waitForSession(again);
});

test.serial('without a host and with writes waiting, the guest’s vproxy is idle, and SIGTERM ends it', async (t) => {
  const { agent } = guest();
  const { guestVproxy } = both;
  const transfers = await startTransfers(both, MIB);
  await both.killHost();
  for (const { wrongAt } of await endsOf(transfers)) t.is(wrongAt, null);
  await eventuallyInGuest(async () => ENDED.test(await guestVproxy.log()), { what: 'the end of its session' });

  const storageCall = await agent.spawn(['/usr/sbin/storcli64', '/c0', 'show']);
  const connection = await agent.spawn(['sh', '-c', `exec nc 127.0.0.1 ${GUEST_PORTS.hostEcho} < /bin/busybox`]);
  t.teardown(() => Promise.allSettled([storageCall.kill('KILL'), connection.kill('KILL')]));
  const count = async () => {
    const text = await agent.output(`cat /proc/${guestVproxy.pid}/status`);
    return Number(/^voluntary_ctxt_switches:\s+(\d+)$/m.exec(text)?.[1]);
  };
  const before = await count();
  await agent.output(`sleep ${MEASURED_MS / 1000}`);
  const wakeUps = (await count()) - before;
  t.true(wakeUps < WAKE_UPS, `${wakeUps} wake-ups in ${MEASURED_MS} ms`);

  t.is(await both.endGuestVproxy('TERM'), 0);
  await both.startGuestVproxy();
  both.startHost();
  await both.waitForSession(0);
});

test.serial('after the machine was paused, the session and its streams continue as before', async (t) => {
  const { host } = both;
  const from = host.lines.length;
  const quiet = connect(await both.port('echo'), '127.0.0.1');
  t.teardown(() => quiet.destroy());
  const echo = async (text: string) => {
    quiet.write(text);
    t.is(String(await within(START_MS, 'an echo', once(quiet, 'data'))), text);
  };
  await echo('before');
  const transfers = await startTransfers(both, MIB, FILE_BYTES);
  await guest().pause();
  // The silence itself is tested: nothing can announce its end.
  await delay(PAUSE_MS);
  await guest().resume();
  await echo('after');
  const whole = { bytes: FILE_BYTES, wrongAt: null, error: null };
  t.deepEqual(await endsOf(transfers), [whole, whole]);
  t.deepEqual(
    host.lines.slice(from).filter((line) => ENDED.test(line)),
    [],
  );
});

async function killGuestVproxy(): Promise<void> {
  await both.endGuestVproxy();
  await both.startGuestVproxy();
}

async function killHost(): Promise<void> {
  await both.killHost();
  both.startHost();
}

async function goBack(transfers: readonly Transfer[]): Promise<void> {
  await guest().saveSnapshot('in-mid-transfer');
  await makeProgress(transfers, MIB);
  await guest().loadSnapshot('in-mid-transfer');
}

async function resetGuest(): Promise<void> {
  await guest().reset();
  await both.startGuestVproxy();
}

for (const [title, event] of Object.entries({
  'the vproxy of the guest is killed and restarted': killGuestVproxy,
  'the vproxy of the host is killed and restarted': killHost,
  'the machine is put back to an earlier state': goBack,
  'the guest is reset': resetGuest,
})) {
  test.serial(`${title} in the middle of transfers: no byte is wrong, and everything works again`, async (t) => {
    await disturb(t, both, MIB, event);
    await checkEssentials(t, both, MIB);
  });
}

test.serial('after a reset, the guest has the key of its SMBIOS, and everything works inside TLS', async (t) => {
  const { agent, folder, channelPath } = guest();
  const file = `${GUEST_CREDENTIALS}/vproxy.key`;
  t.is(await agent.output(`cat ${file}; stat -c %a ${GUEST_CREDENTIALS} ${file}`), `${KEY}\n700\n600`);
  await both.endGuestVproxy();
  await both.stop();
  const key = join(folder, 'host.key');
  writeFileSync(key, `${KEY}\n`, { mode: 0o600 });
  const more = ['--key', key, '--control', controlSocket()];
  both = await Laboratory.start(guest(), {
    host: () => HostSide.start(`unix-connect:${channelPath},tls=psk`, more),
    guestArgs: ({ portPath }) => ['-c', `virtserial-open:${portPath},tls=psk`, '--key', file],
  });
  await checkEssentials(t, both, MIB);
  await disturb(t, both, MIB, killHost);
  await checkEssentials(t, both, MIB);
  const channels = JSON.parse((await onHost('channels', '--json')).stdout) as ChannelStatus[];
  t.like(channels, [{ state: 'established', session: { key: SecretKey.parse(KEY).id, tls: 'psk' } }]);
});
