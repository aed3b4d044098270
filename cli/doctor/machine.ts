/** The machine that the doctor examines. Each fact is read once, when the first check needs it. */

import { closeSync, constants, openSync, readSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { controlFolder } from '../../lib/control/socket-paths.js';
import { systemCode } from '../../lib/errors.js';
import { lookUpHost } from '../../lib/system/dns/lookup.js';
import { readText } from '../../lib/system/files/optional-files.js';
import { loadLibc } from '../../lib/system/libc.js';
import { findSockets, type ListedSocket } from '../../lib/system/proc/proc-net.js';
import { describeToolFailure, runTool } from '../../lib/system/processes/run-tool.js';
import { grantedBuffer } from '../../lib/system/sockets/socket-buffer.js';
import { packageVersion } from '../package-info.js';
import { deadline, formatHolders, ProcessList } from './process-list.js';
import { askControlSockets, type ControlSocket, channelsOf, isHeld, type RunningChannel } from './running.js';

/** Where the facts of a machine come from. Specs replace them, because they cannot have every machine. */
export interface MachineOptions {
  readonly proc: string;
  readonly sys: string;
  readonly dev: string;
  readonly etc: string;
  /** The environment variables of programs on this machine. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Logs with the kernel's denials; devices are read without blocking. */
  readonly logs: readonly string[];
  readonly userId: number;
  readonly version: string;
  /** How long a check may take, in whole milliseconds. */
  readonly timeoutMs: number;
  /** The current time since the epoch. */
  readonly nowMs: number;
  /** The folder of the control sockets, or null if this user has none. */
  readonly controlFolder: string | null;
  /** Further control sockets, given explicitly. */
  readonly controlSockets: readonly string[];
  /** The name or the path of virsh. */
  readonly virsh: string;
  /** `$PATH`. */
  readonly searchPath: string;
  /** Opens a port for a moment to see whether the host has it open. Throws system errors. */
  readonly isHostAtPort: (device: string) => boolean;
  /** The inode at the other end of each connected unix socket, by inode. */
  readonly readUnixPeers: (timeoutMs: number) => Promise<ReadonlyMap<string, string>>;
  /** Resolves with the CID of this machine, or null if unknown. Rejects if koffi cannot be loaded. */
  readonly readCid: () => Promise<number | null>;
  /** The addresses of a host, as vproxy looks them up. */
  readonly lookUpHost: (host: string, signal: AbortSignal) => Promise<readonly string[]>;
  /** Resolves with the buffer granted to a unix socket that asks for `bytes`; null if refused. Rejects without koffi. */
  readonly grantedBuffer: (bytes: number) => Promise<number | null>;
  readonly hasKoffi: () => Promise<boolean>;
}

/** How long a check may take by default, in milliseconds. */
const DEFAULT_CHECK_MS = 2000;

/** Shares of a check's time for listing all processes or all sockets, and for ss(8). */
const LIST_PART = 0.6;
const UNIX_PEERS_PART = 0.5;

export class Machine {
  readonly options: MachineOptions;
  #processes: Promise<ProcessList> | null = null;
  #sockets: Promise<ListedSocket[]> | null = null;
  #unixPeers: Promise<ReadonlyMap<string, string>> | null = null;
  #control: Promise<ControlSocket[]> | null = null;

  constructor(options: Partial<MachineOptions> = {}) {
    this.options = { ...usualOptions(), ...options };
  }

  /** Returns how long a part of a check may take, in milliseconds; `part` is its share of the time, 0 to 1. */
  timeFor(part: number): number {
    return Math.round(this.options.timeoutMs * part);
  }

  /** The processes at the time of the first call. */
  processes(): Promise<ProcessList> {
    this.#processes ??= ProcessList.read(this.options.proc, this.timeFor(LIST_PART));
    return this.#processes;
  }

  /** The sockets at the time of the first call. */
  sockets(): Promise<ListedSocket[]> {
    this.#sockets ??= findSockets(this.options.proc, deadline(this.timeFor(LIST_PART)));
    return this.#sockets;
  }

  /** Who listens on a socket for which `isIt`; null if none is listed. */
  async listenerAt(isIt: (socket: ListedSocket) => boolean) {
    const socket = (await this.sockets()).find((one) => one.state === 'listening' && isIt(one));
    if (socket === undefined) return null;
    const processes = await this.processes();
    const holders = processes.holdersOfSocket(socket.inode);
    const isOfUser = holders.length === 0 && socket.userId !== null;
    const who = isOfUser ? `a process of user ${socket.userId}` : formatHolders(holders, processes.isPartial);
    return { holders, who };
  }

  /** The inode of the socket at the other end of a connected unix socket, or null if unknown. */
  async unixPeerOf(inode: string): Promise<string | null> {
    this.#unixPeers ??= this.options
      .readUnixPeers(this.timeFor(UNIX_PEERS_PART))
      .catch(() => new Map<string, string>());
    return (await this.#unixPeers).get(inode) ?? null;
  }

  /** The control sockets, and the processes that answer on them. */
  control(): Promise<ControlSocket[]> {
    const { controlFolder, controlSockets, timeoutMs } = this.options;
    this.#control ??= askControlSockets(controlFolder, controlSockets, timeoutMs);
    return this.#control;
  }

  /** Returns the channel of a running vproxy that has this canonical address open, or null. */
  async runningChannel(address: string): Promise<RunningChannel | null> {
    const found = channelsOf(await this.control()).find(({ channel }) => channel.address === address);
    return found !== undefined && isHeld(found.channel.state) ? found : null;
  }

  /** The text of a file in /proc; empty if it does not exist. */
  readProc(name: string): string {
    return readText(path.join(this.options.proc, name));
  }

  /** The text of a file in /sys; null if it does not exist or is empty. */
  readSys(name: string): string | null {
    const text = readText(path.join(this.options.sys, name));
    return text === '' ? null : text.trim();
  }
}

function usualOptions(): MachineOptions {
  const userId = process.geteuid?.() ?? 0;
  return {
    proc: '/proc',
    sys: '/sys',
    dev: '/dev',
    etc: '/etc',
    environment: process.env,
    logs: ['/var/log/audit/audit.log', '/var/log/kern.log', '/dev/kmsg'],
    userId,
    version: packageVersion(),
    timeoutMs: DEFAULT_CHECK_MS,
    nowMs: Date.now(),
    controlFolder: controlFolder({ isRoot: userId === 0, runtimeDirectory: process.env['XDG_RUNTIME_DIR'] ?? null }),
    controlSockets: [],
    virsh: 'virsh',
    searchPath: process.env['PATH'] ?? '',
    isHostAtPort,
    readUnixPeers,
    readCid,
    lookUpHost,
    grantedBuffer,
    hasKoffi: () =>
      loadLibc().then(
        () => true,
        () => false,
      ),
  };
}

/** A port without a host reads EOF. The read may swallow a byte of a HELLO, which the peer repeats every second. */
function isHostAtPort(device: string): boolean {
  const fd = openSync(device, constants.O_RDWR | constants.O_NONBLOCK | constants.O_NOCTTY);
  try {
    return readSync(fd, Buffer.alloc(1)) > 0;
  } catch (error) {
    if (systemCode(error) === 'EAGAIN') return true;
    throw error;
  } finally {
    closeSync(fd);
  }
}

/** IOCTL_VM_SOCKETS_GET_LOCAL_CID of linux/vm_sockets.h. */
const LOCAL_CID_REQUEST = 0x7b9;

async function readCid(): Promise<number | null> {
  const ioctl = (await loadLibc()).declare('int ioctl(int fd, unsigned long request, void *value)');
  const fd = openSync('/dev/vsock', 'r');
  try {
    const value = Buffer.alloc(4);
    return ioctl(fd, LOCAL_CID_REQUEST, value) < 0
      ? null
      : (new Uint32Array(value.buffer, value.byteOffset)[0] ?? null);
  } finally {
    closeSync(fd);
  }
}

export const kernelOf = (): string => `${os.type()} ${os.release()} ${os.arch()}`;

const MAX_BYTES = 2 ** 22;

/** Pairs connected unix sockets with ss(8) of iproute2, as /proc does not. Rejects if ss is missing or too slow. */
async function readUnixPeers(timeoutMs: number): Promise<ReadonlyMap<string, string>> {
  const result = await runTool(['ss', '-xnH'], { timeoutMs, maxBytes: MAX_BYTES });
  if (result.end !== 0) throw new Error(describeToolFailure('ss', result));
  return parseUnixPeers(result.stdout);
}

/** Parses `Netid State Recv-Q Send-Q Local-Address:Port Peer-Address:Port`, where the ports are inodes. */
function parseUnixPeers(text: string): Map<string, string> {
  const pairs = text.split('\n').flatMap((line): [string, string][] => {
    const [, inode = '', peer = ''] = / (\d+) +\S+ (\d+) *$/.exec(line) ?? [];
    return inode === '' || peer === '0' ? [] : [[inode, peer]];
  });
  return new Map(pairs);
}
