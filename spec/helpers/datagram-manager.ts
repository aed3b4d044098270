/** A service manager in this process: it receives messages with their descriptors, but only when asked to. */
import { randomUUID } from 'node:crypto';
import type { ExecutionContext } from 'ava';
import { loadLibc } from '../../lib/system/libc.js';
import { closeAll, loadMessageCalls } from '../../lib/system/unix-messages.js';

export interface ServiceMessage {
  readonly facts: readonly string[];
  /** Closed when the test is over; that of a barrier, at once. */
  readonly descriptors: readonly number[];
}

export interface DatagramManager {
  readonly address: string;
  /** The messages received since the last call. */
  readonly receive: () => ServiceMessage[];
}

export async function openDatagramManager(t: ExecutionContext): Promise<DatagramManager> {
  const libc = await loadLibc();
  const calls = await loadMessageCalls();
  const fd = libc.declare('int socket(int domain, int type, int protocol)')(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const name = `vproxy-spec-${randomUUID()}`;
  const address = Buffer.from(`\x01\0\0${name}`);
  t.is(libc.declare('int bind(int fd, const void *address, unsigned int length)')(fd, address, address.length), 0);
  const held = [fd];
  t.teardown(() => closeAll(held));
  const room = Buffer.alloc(4096);
  const receive = (): ServiceMessage[] => {
    const messages: ServiceMessage[] = [];
    for (let came = calls.receive(fd, room); came !== null; came = calls.receive(fd, room)) {
      const facts = room.toString('utf8', 0, came.byteCount).split('\n');
      // systemd-notify waits until its own is closed.
      if (facts.includes('BARRIER=1')) closeAll(came.descriptors);
      else held.push(...came.descriptors);
      messages.push({ facts, descriptors: came.descriptors });
    }
    return messages;
  };
  return { address: `@${name}`, receive };
}

// Linux constants.
const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
