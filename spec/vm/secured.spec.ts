/** A guest that is handed its key by SMBIOS, and TLS with that key on the channel: everything works as it does without. */
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';

import test from 'ava';
import { SecretKey } from '../../lib/session/opening/auth.js';
import type { ChannelStatus } from '../../lib/status/types.js';
import { readToEnd } from '../helpers/proxies.js';
import { eventually, within } from '../helpers/time.js';
import { ENDED, ESTABLISHED, runVproxy } from '../helpers/vproxy-process.js';
import { eventuallyInGuest } from './rig/agent.js';
import { ChannelTap } from './rig/channel-tap.js';
import { checkEssentials } from './rig/check-everything.js';
import { HostSide } from './rig/host-side.js';
import { GUEST_CREDENTIALS } from './rig/init-script.js';
import { GUEST_VPROXY } from './rig/initramfs.js';
import { killHostVproxy, resetGuest } from './rig/mid-transfer.js';
import { useLaboratory } from './rig/use-guest.js';

const KEY = randomBytes(32).toString('hex');
const WRONG_KEY = randomBytes(32).toString('hex');
const SECRET = 'what nobody but the two ends shall read';
/** A service, which a HELLO and an OPEN name. */
const SERVICE = 'host-echo';

const keyIn = (folder: string) => join(folder, 'host.key');
const controlIn = (folder: string) => join(folder, 'control.sock');
const guestChannel = (portPath: string) => ['-c', `virtserial-open:${portPath},tls=psk`];

let tap: ChannelTap | undefined;

const laboratory = useLaboratory(test, {
  guest: (folder) => {
    writeFileSync(keyIn(folder), `${KEY}\n`, { mode: 0o600 });
    return { credentials: { 'vproxy.key': Buffer.from(`${KEY}\n`) } };
  },
  host: async ({ channelPath, folder, agent }) => {
    // As SMBIOS hands it over at a boot, which the last test but one shows.
    await agent.output(`umask 077; mkdir -p ${GUEST_CREDENTIALS}; echo ${KEY} > ${GUEST_CREDENTIALS}/vproxy.key`);
    const tapPath = join(folder, 'tap.sock');
    tap = await ChannelTap.start(tapPath, channelPath, [SECRET, SERVICE, KEY]);
    const more = ['--key', keyIn(folder), '--control', controlIn(folder)];
    return HostSide.start(`unix-connect:${tapPath},tls=psk`, more);
  },
  guestArgs: ({ portPath }) => guestChannel(portPath),
  guestEnvironment: { CREDENTIALS_DIRECTORY: GUEST_CREDENTIALS },
});

test.serial.after.always('the channel is read along no more', () => tap?.close());

const TEST_MS = 600_000;
const FILE_BYTES = 1 << 20;
const PROGRESS_BYTES = 1 << 20;
const RESTART_MS = 120_000;
const RETRY_MS = 120_000;

test.serial('storage, ssh, files and a forward to the host work inside TLS', async (t) => {
  t.timeout(TEST_MS);
  await checkEssentials(t, laboratory(), FILE_BYTES);
});

test.serial('nothing that is sent, nor where to, can be read on the channel', async (t) => {
  t.timeout(TEST_MS);
  const sent = Buffer.from(`${SECRET}\n`.repeat(50_000));
  const before = channelTap().bytes;
  const socket = connect({ port: await laboratory().port('echo'), host: '127.0.0.1', allowHalfOpen: true });
  const echoed = readToEnd(socket);
  socket.end(sent);
  t.true((await within(TEST_MS, 'an echo', echoed)).equals(sent));
  t.true(channelTap().bytes - before > 2 * sent.length, 'what was sent went over the channel');
  t.deepEqual([...channelTap().found], []);
});

test.serial('the vproxy of the host is killed in mid-transfer: all works again inside TLS', async (t) => {
  t.timeout(TEST_MS);
  await killHostVproxy(t, laboratory(), PROGRESS_BYTES);
  await checkEssentials(t, laboratory(), FILE_BYTES);
});

test.serial('a guest with another key gets no session, until it has the right one', async (t) => {
  t.timeout(TEST_MS);
  const { guest, guestVproxy, host } = laboratory();
  const from = host.lines.length;
  const { sessions } = (await hostChannel()).history;
  await guestVproxy.kill('TERM');
  t.is(await guestVproxy.waitForEnd(), 0);
  await host.waitForLine(ENDED, { from });
  const folder = '/run/other';
  await guest.agent.output(`umask 077; mkdir ${folder}; echo ${WRONG_KEY} > ${folder}/vproxy.key`);
  const words = ['env', `CREDENTIALS_DIRECTORY=${folder}`, 'node', GUEST_VPROXY, ...guestChannel(guest.portPath)];
  const stranger = await guest.agent.spawn(words);
  const isRefused = async () => (await hostChannel()).state === 'auth-failed';
  await eventually(isRefused, { timeoutMs: RESTART_MS, what: 'the state auth-failed' });
  const { session, history } = await hostChannel();
  t.is(session, null);
  t.is(history.sessions, sessions);
  t.like(history.recent, [{ code: 'auth-failed' }]);
  await eventuallyInGuest(async () => (await stranger.log()).includes('auth-failed'), { timeoutMs: RESTART_MS });
  await stranger.kill('TERM');
  await stranger.waitForEnd();

  await laboratory().startGuestVproxy();
  // After a refusal the next attempt may come only a minute later.
  await host.waitForLine(ESTABLISHED, { from, timeoutMs: RETRY_MS });
  t.is((await hostChannel()).history.sessions, sessions + 1);
});

test.serial('the guest is reset in mid-transfer: it has the key of its SMBIOS, and all works inside TLS', async (t) => {
  t.timeout(TEST_MS);
  await resetGuest(t, laboratory(), PROGRESS_BYTES);
  await checkEssentials(t, laboratory(), FILE_BYTES);
});

test.serial('the key that came by SMBIOS is a file for its owner alone, and is nowhere to be read', async (t) => {
  t.timeout(TEST_MS);
  const { guest, guestVproxy, host } = laboratory();
  const file = `${GUEST_CREDENTIALS}/vproxy.key`;
  t.is(await guest.agent.output(`cat ${file}; stat -c %a ${GUEST_CREDENTIALS} ${file}`), `${KEY}\n700\n600`);
  const [status, guestStatus] = await Promise.all([
    runVproxy(['status', '--json', '--socket', controlIn(guest.folder)]),
    guest.agent.output(`node ${GUEST_VPROXY} status --json`),
  ]);
  for (const text of [status.stdout, guestStatus]) {
    const { channels } = JSON.parse(text) as { channels: ChannelStatus[] };
    t.like(channels, [{ state: 'established', session: { key: SecretKey.parse(KEY).id, tls: 'psk' } }]);
  }
  const readable = [
    ...[host.lines.join('\n'), status.stdout, readFileSync(`/proc/${host.pid}/cmdline`, 'utf8')],
    ...[await guestVproxy.log(), guestStatus, await guest.agent.output(`cat /proc/${guestVproxy.pid}/cmdline`)],
    guest.console.read(),
  ];
  for (const text of readable) t.false(text.includes(KEY));
});

function channelTap(): ChannelTap {
  if (tap === undefined) throw new Error('the channel is not read along');
  return tap;
}

/** The status of the host's channel. */
async function hostChannel(): Promise<ChannelStatus> {
  const { stdout } = await runVproxy(['channels', '--json', '--socket', controlIn(laboratory().guest.folder)]);
  const [channel] = JSON.parse(stdout) as ChannelStatus[];
  if (channel === undefined) throw new Error('the vproxy of the host has no channel');
  return channel;
}
