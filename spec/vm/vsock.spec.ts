/** AF_VSOCK sockets as the channel: two vproxies in one guest, over the loopback of vsock, where each side has CID 1. */
import test from 'ava';

import { eventually } from '../helpers/time.js';
import { ESTABLISHED } from '../helpers/vproxy-process.js';
import type { GuestJob } from './rig/guest-job.js';
import { GUEST_PORTS } from './rig/guest-ports.js';
import { GUEST_BUNDLE, GUEST_RIG } from './rig/initramfs.js';
import { useGuest } from './rig/use-guest.js';

const guest = useGuest(test, {
  plan: () => ({ modules: ['vsock', 'vmw_vsock_virtio_transport_common', 'vsock_loopback'] }),
});

const VSOCK_PORT = 5000;
const FORWARD_PORT = 9100;
const SESSION_MS = 40_000;
const FILE_BYTES = 8 << 20;

test.serial('a file passes a forward over vsock unchanged, each way, and again after a restart', async (t) => {
  t.timeout(180_000);
  const { agent } = guest();
  const startDialler = () => vproxy('-c', `vsock-connect:1:${VSOCK_PORT}`, '-o', `echo:127.0.0.1:${FORWARD_PORT}`);
  const services = await agent.spawn(['node', `${GUEST_RIG}/services.js`]);
  const listener = await vproxy('-c', `vsock-listen:${VSOCK_PORT}`, '-i', `echo:127.0.0.1:${GUEST_PORTS.echo}`);
  const dialler = await startDialler();
  t.teardown(() => Promise.allSettled([services, listener].map((job) => job.kill('KILL'))));
  await waitForSession(dialler, 'session of the first one');
  await eventually(async () => (await services.log()) === 'ready', { what: 'the services of the guest' });
  await checkFile();

  await dialler.kill('KILL');
  await dialler.waitForEnd();
  const next = await startDialler();
  t.teardown(() => next.kill('KILL').catch(() => undefined));
  await waitForSession(next, 'session of the next one');
  await checkFile();

  /** The echo of a file is the file. */
  async function checkFile(): Promise<void> {
    const send = `nc 127.0.0.1 ${FORWARD_PORT} < /tmp/out | sha256sum`;
    const command = `head -c ${FILE_BYTES} /dev/urandom > /tmp/out && ${send} && sha256sum < /tmp/out`;
    const [echoed, sent] = (await agent.output(command, { timeoutMs: 60_000 })).split('\n');
    t.is(echoed, sent);
  }
});

function vproxy(...args: string[]): Promise<GuestJob> {
  return guest().agent.spawn(['node', GUEST_BUNDLE, ...args]);
}

async function waitForSession(job: GuestJob, what: string): Promise<void> {
  await eventually(async () => ESTABLISHED.test(await job.log()), { timeoutMs: SESSION_MS, intervalMs: 200, what });
}
