/** The ways to carry bytes through a guest's port. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { compileGuest } from '../../../spec/guest-program/compile.js';
import { eventually, within } from '../../../spec/helpers/time.js';
import { type Guest, SHARED_FOLDER } from '../../../spec/vm/rig/guest.js';
import type { Address } from '../load/connection.js';
import { exchangeOneByte } from '../load/connections.js';
import { startProgram } from '../load/program.js';
import { GUEST_CHANNEL, spawnInGuest, startInGuest, TARGET_PORT, VPROXY_PROGRAM } from './guest-programs.js';

/** Node takes seconds to start under emulation, and a session takes longer still. */
const SESSION_TIMEOUT_MS = 60_000;
const TRY_TIMEOUT_MS = 15_000;

/** A ready contender. */
export interface RunningVmContender {
  /** The address for the near end of the measurement. */
  readonly address: string;
  stop(): Promise<void>;
}

/** One way of carrying bytes. */
export interface VmContender {
  readonly id: string;
  /** The heading of its column. */
  readonly title: string;
  /** Whether it carries several streams at once. */
  readonly isMultiplexed: boolean;
  /** Starts both ends. */
  start(guest: Guest): Promise<RunningVmContender>;
}

/** A forward from vproxy here to a program in the guest, which gets these arguments. */
const forwardTo = (
  startGuest: (guest: Guest, forward: readonly string[]) => Promise<() => Promise<void>>,
): VmContender['start'] =>
  async function start(guest) {
    // It prints nothing before there is a session, whereas the port opens at once.
    const stopGuest = await startGuest(guest, ['-c', GUEST_CHANNEL, '--no-storage', '-i', `load:${TARGET_PORT}`]);
    const args = ['--no-control', '-c', `unix-connect:${guest.channelPath}`, '-o', 'load:127.0.0.1:0'];
    const near = await startProgram(VPROXY_PROGRAM, args, /listening on/);
    const address = /127\.0\.0\.1:(\d+)/.exec(near.firstLine)?.[1] ?? '';
    const stop = stopBoth(() => near.stop(), stopGuest);
    try {
      await eventually(() => carriesOneByte(Number(address)), { timeoutMs: SESSION_TIMEOUT_MS });
    } catch (error) {
      // It may have exited by itself.
      await stop().catch(() => undefined);
      throw new Error('no bytes came through the guest', { cause: error });
    }
    return { address, stop };
  };

const vproxy: VmContender = {
  id: 'vproxy',
  title: 'vproxy forward',
  isMultiplexed: true,
  start: forwardTo((guest, forward) => startInGuest(guest, VPROXY_PROGRAM, forward, /^/)),
};

const guestProgram: VmContender = {
  id: 'vproxy-guest',
  title: 'vproxy-guest forward',
  isMultiplexed: true,
  start: forwardTo(async (guest, forward) => {
    const program = join(guest.folder, 'vproxy-guest');
    if (!existsSync(program)) compileGuest(program);
    await guest.addFiles(program);
    return spawnInGuest(guest, [join(SHARED_FOLDER, 'vproxy-guest'), ...forward], /^/);
  }),
};

const relay: VmContender = {
  id: 'relay',
  title: 'plain relay',
  isMultiplexed: false,
  async start(guest) {
    const args = ['relay', GUEST_CHANNEL, TARGET_PORT];
    const stopGuest = await startInGuest(guest, 'tools/bench/vm/guest-port.js', args, /ready/);
    const near = await startProgram('tools/bench/peers/relay.js', ['0', guest.channelPath]);
    return { address: near.firstLine, stop: stopBoth(() => near.stop(), stopGuest) };
  },
};

const mux: VmContender = {
  id: 'mux',
  title: 'MuxStream in process',
  isMultiplexed: true,
  start: async (guest) => ({
    address: `mux:unix-connect:${guest.channelPath}`,
    stop: await startInGuest(guest, 'tools/bench/vm/guest-port.js', ['mux', GUEST_CHANNEL], /ready/),
  }),
};

const raw: VmContender = {
  id: 'raw',
  title: 'raw port',
  isMultiplexed: false,
  start: async (guest) => ({
    address: guest.channelPath,
    stop: await startInGuest(guest, 'tools/bench/vm/guest-port.js', ['raw', GUEST_CHANNEL], /ready/),
  }),
};

/** Each multiplexing contender, followed by the plain one that it is compared with. */
export const VM_CONTENDERS: readonly VmContender[] = [vproxy, guestProgram, relay, mux, raw];

/** Resolves when a byte has come back through a contender. Rejects when its connection closes before. */
export async function carriesOneByte(address: Address): Promise<true> {
  await within(TRY_TIMEOUT_MS, 'an echo', exchangeOneByte(address));
  return true;
}

const stopBoth = (near: () => Promise<void>, guest: () => Promise<void>) => async (): Promise<void> => {
  await near();
  await guest();
};
