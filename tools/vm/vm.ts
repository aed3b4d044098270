/** A running VM: QEMU, and the host's vproxy on the guest's channel. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay, setImmediate } from 'node:timers/promises';
import { describeQemuPort, formatQemuArguments } from '../../cli/hypervisor/qemu.js';
import { PROJECT_ROOT } from '../../spec/helpers/files.js';
import { ESTABLISHED, VproxyProcess } from '../../spec/helpers/vproxy-process.js';
import { findProgram } from '../bench/process/find-program.js';
import { BOOT_OPTIONS, machineArguments } from './machine.js';
import { ANNOUNCED, PORT_NAME, type VmParts } from './parts.js';

/** The command line of vproxy in this clone. */
export const VPROXY = join(PROJECT_ROOT, 'dist/program/vproxy.cjs');

/** The status of `vproxy exec` if it fails itself, and of this program. */
export const EXIT_FAILED = 125;

/** A VM that ends closes its channel a moment before QEMU does. */
const ENDING_MS = 2000;

const MEMORY_MIB = 512;
/** Under emulation, on a busy machine. */
const BOOT_MS = 180_000;
const SHOWN_LINES = 20;
const SHOWN_CHARACTERS = 4000;

const lastOf = (lines: readonly string[]): string => lines.slice(-SHOWN_LINES).join('\n').slice(-SHOWN_CHARACTERS);

/** The caller that starts it stops it. */
export class Vm {
  readonly controlSocket: string;
  /** Resolves with what happened when QEMU or vproxy ends by itself. */
  readonly ended: Promise<string>;
  readonly #console: string;
  readonly #qemu: VproxyProcess;
  readonly #host: VproxyProcess;

  /** Starts both processes; `folder` is for their files. */
  constructor(parts: VmParts, folder: string) {
    this.controlSocket = join(folder, 'control.sock');
    this.#console = join(folder, 'console.log');
    const port = join(folder, 'port.sock');
    this.#qemu = start([parts.qemu], qemuArguments(parts, port, this.#console));
    const [connect, control] = [port, this.controlSocket].map((path) => path.replaceAll(',', ',,'));
    const host = ['-c', `vm=unix-connect:${connect}`, '--control', control ?? '', '--forward-ports', ANNOUNCED];
    this.#host = start([process.execPath, VPROXY], host);
    this.ended = Promise.race([
      this.#qemu.exited.then(() => `QEMU ended\n${lastOf(this.#qemu.lines)}\n${this.#lastLines()}`),
      this.#host.exited.then(() => `vproxy ended\n${lastOf(this.#host.lines)}`),
    ]);
  }

  /** Waits for the session with vproxy-guest. Rejects, with the end of the console, if it takes too long. */
  async waitForSession(): Promise<void> {
    await this.#host.waitForLine(ESTABLISHED, { timeoutMs: BOOT_MS }).catch(async () => {
      const late = `no answer from the VM after ${BOOT_MS / 1000} s\n${this.#lastLines()}`;
      // If vproxy ended, that is the reason.
      throw new Error(await Promise.race([this.ended, setImmediate(late)]));
    });
  }

  /**
   * Runs a command in the VM with this process's input and output, and resolves with its status; `signal` stops it. Rejects if the VM
   * has ended.
   */
  async run(command: readonly string[], signal: AbortSignal): Promise<number> {
    const child = spawn(process.execPath, [VPROXY, 'exec', '--channel', 'vm', '--', ...command], {
      stdio: 'inherit',
      env: { ...process.env, VPROXY_SOCKET: this.controlSocket },
    });
    signal.addEventListener('abort', () => child.kill('SIGKILL'));
    const [code, killedBy] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null];
    if (code === EXIT_FAILED) {
      const reason = await Promise.race([this.ended, delay(ENDING_MS, null, { ref: false })]);
      if (reason !== null) throw new Error(reason.trimEnd());
    }
    return code ?? 128 + constants.signals[killedBy ?? 'SIGKILL'];
  }

  /** Ends both processes. */
  async stop(): Promise<void> {
    // With its group: a script may start QEMU, and wait for it.
    if (this.#qemu.kill('SIGKILL')) process.kill(-this.#qemu.pid, 'SIGKILL');
    await Promise.all([this.#qemu.exited, this.#host.stop()]);
  }

  #lastLines(): string {
    try {
      const lines = readFileSync(this.#console, 'utf8').replaceAll('\r', '').trimEnd().split('\n');
      return `the console's last lines:\n${lastOf(lines)}`;
    } catch {
      return 'nothing on the console';
    }
  }
}

/**
 * Starts a program that an interrupt at the terminal does not reach, as this process ends it, and that the kernel kills if this
 * process is killed.
 */
function start(program: readonly string[], args: readonly string[]): VproxyProcess {
  const setpriv = findProgram('setpriv');
  const launcher = setpriv === undefined ? [] : [setpriv, '--pdeathsig', 'KILL'];
  return new VproxyProcess(args, { program, launcher, hasOwnGroup: true, hasDefaultControl: true });
}

function qemuArguments({ kernel, accelerator, archive }: VmParts, port: string, console: string): string[] {
  const end = { kind: 'unix', mode: 'bind', path: port } as const;
  return [
    ...['-accel', accelerator === 'kvm' ? 'kvm' : 'tcg,thread=multi'],
    ...machineArguments(process.arch, BOOT_OPTIONS),
    ...['-m', String(MEMORY_MIB), '-nic', 'none', '-no-reboot', '-serial', `file:${console}`],
    ...formatQemuArguments(describeQemuPort({ name: PORT_NAME, end, reconnectSeconds: 1 }, null)),
    ...['-kernel', kernel.image, '-initrd', archive],
  ];
}
