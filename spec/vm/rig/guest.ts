/** A guest under QEMU with one virtio-serial port to test, and an agent on a port of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { eventually } from '../../helpers/time.js';
import { type Accelerator, chooseAccelerator } from './accel.js';
import { Agent } from './agent.js';
import { keepState, sharedSshKeys, statePath } from './booted-states.js';
import { ConsoleLog } from './console-log.js';
import { type GuestOptions, type GuestPlan, PORT_NAME } from './guest-options.js';
import { AGENT_PORT } from './init-script.js';
import { buildInitramfs } from './initramfs.js';
import { Qmp } from './qmp.js';
import { SnapshotStore } from './snapshot-store.js';
import { makeSshKeys, type SshKeys } from './ssh-keys.js';
import { findTools, type Tools } from './tools.js';

/** Where a guest has the port under test whose test names no other. */
export const PORT_PATH = `/dev/virtio-ports/${PORT_NAME}`;

const DEFAULT_BOOT_MS = 90_000;
const STATE_MS = 60_000;

/** In bytes a second: more than any disk has. */
const MIGRATION_BANDWIDTH = 1e11;

const shellQuote = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

/** The id of the port under test in QEMU, for `device_del` and `device_add`; its bus is `bus0.0`, its chardev `port`. */
export const PORT_ID = 'port0';

const DEFAULT_MEMORY_MIB = 1024;

/** What all guests see of their machine. */
const MACHINE = [
  ...['-cpu', 'max', '-M', 'q35', '-smp', '2', '-nodefaults', '-display', 'none', '-monitor', 'none'],
  ...['-append', 'console=ttyS0 quiet panic=-1 mitigations=off'],
];

/** The words of QEMU for the port under test and its bus. */
const usualPort = (chardev: string, portName: string): readonly string[] =>
  [
    ['-device', 'virtio-serial-pci,id=bus0'],
    ['-chardev', `${chardev},id=port`],
    ['-device', `virtserialport,bus=bus0.0,chardev=port,name=${portName},id=${PORT_ID}`],
  ].flat();

/** What the guest sees of these words: no chardev, and none of QEMU's names. */
function hardwareIn(words: readonly string[]): string[] {
  const seen: string[] = [];
  for (let at = 0; at < words.length; at += 2) {
    const [option = '', value = ''] = words.slice(at, at + 2);
    if (option === '-chardev') continue;
    const properties = value.split(',').filter((property) => !/^(?:id|bus|chardev)=/.test(property));
    seen.push(option, properties.join(','));
  }
  return seen;
}

const USUAL_HARDWARE = hardwareIn(usualPort('', PORT_NAME));

/** Whether the guest has no option that only some test file uses, so that others can start from its state. */
function isUsual(options: GuestOptions): boolean {
  const { portChardev, portArguments, portName = PORT_NAME, ...others } = options;
  const words = portArguments ?? usualPort(portChardev ?? '', portName);
  return Object.keys(others).length === 0 && hardwareIn(words).join('\n') === USUAL_HARDWARE.join('\n');
}

/**
 * Boots a guest and waits until its agent answers; the usual one starts from the saved state of one that has booted, if
 * there is such a state. Rejects, with the end of the console, when the agent does not answer.
 */
export async function bootGuest(plan: GuestPlan = () => ({})): Promise<Guest> {
  const tools = findTools();
  const accelerator = await chooseAccelerator(tools);
  const folder = mkdtempSync(join(tmpdir(), 'vproxy-vm-'));
  let guest: Guest | undefined;
  try {
    const options = await plan(folder);
    const isShared = isUsual(options);
    const keys = isShared ? sharedSshKeys(tools) : makeSshKeys(tools, folder);
    const { hostKeyFile, authorizedKey } = keys;
    const { portName = PORT_NAME, modules = [], credentials = {}, packageFile } = options;
    writeCredentials(folder, credentials);
    const archive = join(folder, 'initramfs');
    if (options.buildInitramfs !== undefined) options.buildInitramfs(archive, tools);
    else {
      const common = { tools, hostKeyFile, authorizedKey, ports: [portName], modules };
      buildInitramfs(archive, { ...common, ...(packageFile !== undefined && { packageFile }) });
    }
    const agent = await Agent.listen(join(folder, 'agent.sock'));
    const qmp = await Qmp.listen(join(folder, 'qmp.sock'));
    guest = new Guest({ folder, tools, accelerator, keys, agent, qmp, options });
    if (!isShared) {
      await guest.start();
      return guest;
    }
    const hardware = [...MACHINE, ...USUAL_HARDWARE, String(DEFAULT_MEMORY_MIB)];
    const state = statePath({ tools, accelerator, archive, hardware });
    if (existsSync(state)) await guest.startFrom(state);
    else {
      await guest.start();
      await guest.keepStateAt(state);
    }
    return guest;
  } catch (error) {
    const console = guest?.console.tail() ?? '';
    if (guest === undefined) rmSync(folder, { recursive: true, force: true });
    else await guest.stop();
    throw new Error(`the guest did not come up: ${String(error)}\n${console}`, { cause: error });
  }
}

const credentialFile = (folder: string, name: string): string => join(folder, `credential-${name}`);

/** In files, since any user can see the arguments of QEMU. */
function writeCredentials(folder: string, credentials: Readonly<Record<string, Buffer>>): void {
  for (const [name, bytes] of Object.entries(credentials)) {
    const text = `io.systemd.credential.binary:${name}=${bytes.toString('base64')}`;
    writeFileSync(credentialFile(folder, name), text, { mode: 0o600 });
  }
}

interface GuestParts {
  readonly folder: string;
  readonly tools: Tools;
  readonly accelerator: Accelerator;
  readonly keys: SshKeys;
  readonly agent: Agent;
  readonly qmp: Qmp;
  readonly options: GuestOptions;
}

/** A running guest. The caller that boots it stops it. */
export class Guest {
  /** The unix socket on which QEMU has the host's end of the port under test, where no other chardev was asked for. */
  readonly channelPath: string;
  /** Where the guest has the port under test. */
  readonly portPath: string;
  /** The unix socket on which QEMU has the host's end of `/dev/ttyS1`, where that line was asked for. */
  readonly serialPath: string;
  /** Runs commands in the guest. */
  readonly agent: Agent;
  readonly qmp: Qmp;
  readonly console: ConsoleLog;
  readonly tools: Tools;
  readonly keys: SshKeys;
  readonly accelerator: Accelerator;
  /** A folder of this guest's on the host, for what a test needs; removed with the guest. */
  readonly folder: string;

  readonly #options: GuestOptions;
  readonly #portName: string;
  readonly #bootMs: number;
  readonly #snapshots: SnapshotStore;
  #child: ChildProcess | undefined;
  #ended: Promise<void> | undefined;

  constructor(parts: GuestParts) {
    this.folder = parts.folder;
    this.tools = parts.tools;
    this.accelerator = parts.accelerator;
    this.keys = parts.keys;
    this.agent = parts.agent;
    this.qmp = parts.qmp;
    this.#options = parts.options;
    this.#portName = parts.options.portName ?? PORT_NAME;
    this.#bootMs = parts.options.bootMs ?? DEFAULT_BOOT_MS;
    this.channelPath = join(parts.folder, 'port.sock');
    this.portPath = `/dev/virtio-ports/${this.#portName}`;
    this.serialPath = join(parts.folder, 'serial.sock');
    this.console = new ConsoleLog(parts.folder);
    this.#snapshots = new SnapshotStore(parts.qmp, join(parts.folder, 'snapshots.qcow2'));
  }

  /** Starts QEMU and waits for the agent. */
  async start(): Promise<void> {
    const up = this.agent.waitForHello(this.#bootMs);
    up.catch(() => undefined);
    await this.#startQemu(up);
  }

  /** Starts QEMU with a state that `keepStateAt` has written. The guest's clock is corrected. */
  async startFrom(path: string): Promise<void> {
    await this.#startQemu(Promise.resolve(), ['-incoming', `exec:exec cat ${shellQuote(path)}`]);
    await eventually(async () => (await this.#status()) === 'paused', {
      what: 'the state of an earlier guest',
      timeoutMs: STATE_MS,
    });
    await this.resume();
    await this.agent.greet();
    await this.agent.output(`date -s @${Math.round(Date.now() / 1000)}`);
  }

  /** Writes the state of the whole machine to a file, while the machine is stopped. */
  async keepStateAt(path: string): Promise<void> {
    await this.pause();
    await this.qmp.execute('migrate-set-parameters', { 'max-bandwidth': MIGRATION_BANDWIDTH });
    await keepState(path, async (temporary) => {
      await this.qmp.execute('migrate', { uri: `exec:exec cat > ${shellQuote(temporary)}` });
      await eventually(
        async () => {
          const { status } = (await this.qmp.execute('query-migrate')) as { readonly status?: string };
          if (status === 'failed') throw new Error(`QEMU could not write ${temporary}`);
          return status === 'completed';
        },
        { what: 'the state of the guest', timeoutMs: STATE_MS },
      );
    });
    await this.resume();
  }

  /** Starts QEMU and waits until its monitor answers and `up` is settled. */
  async #startQemu(up: Promise<void>, more: readonly string[] = []): Promise<void> {
    const errors: Buffer[] = [];
    // Should the test process be killed, the kernel ends QEMU too.
    const args = ['--pdeathsig', 'KILL', this.tools.qemu, ...this.#arguments(), ...more];
    const child = spawn(this.tools.setpriv, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    this.#child = child;
    child.stderr.on('data', (chunk: Buffer) => errors.push(chunk));
    child.on('error', (error) => errors.push(Buffer.from(error.message)));
    this.#ended = new Promise((resolve) => child.once('close', () => resolve()));
    const died = this.#ended.then(() => {
      throw new Error(`QEMU ended: ${Buffer.concat(errors).toString()}`);
    });
    died.catch(() => undefined);
    await Promise.race([this.qmp.start(), died]);
    await Promise.race([up, died]);
  }

  /** Ends QEMU, as a power cut would, and starts another one. States that were saved before cannot be loaded in it. */
  async restart(): Promise<void> {
    await this.#end();
    this.qmp.hangUp();
    await this.start();
  }

  /** Resets the machine, as its reset button would, and waits until the agent of the new boot answers. */
  async reset(): Promise<void> {
    const up = this.agent.waitForHello(this.#bootMs);
    await this.qmp.execute('system_reset');
    await up;
  }

  /** Stops the processors. */
  async pause(): Promise<void> {
    await this.qmp.execute('stop');
  }

  /** Lets the processors run again. */
  async resume(): Promise<void> {
    await this.qmp.execute('cont');
  }

  /** Saves the state of the whole machine. */
  async saveSnapshot(name: string): Promise<void> {
    await this.#snapshots.save(name);
  }

  /** Puts the machine back into a saved state; its sockets on the host stay as they are. */
  async loadSnapshot(name: string): Promise<void> {
    await this.#snapshots.load(name);
    await this.agent.greet();
  }

  /** Ends QEMU and removes the guest's folder. */
  async stop(): Promise<void> {
    await this.#end();
    this.agent.close();
    this.qmp.close();
    rmSync(this.folder, { recursive: true, force: true });
  }

  async #status(): Promise<string> {
    return ((await this.qmp.execute('query-status')) as { readonly status: string }).status;
  }

  async #end(): Promise<void> {
    this.#child?.kill('SIGKILL');
    await this.#ended;
  }

  #arguments(): string[] {
    const file = (name: string) => join(this.folder, name);
    const { portChardev = `socket,path=${this.channelPath},server=on,wait=off`, hasSerialLine = false } = this.#options;
    const { credentials = {}, memoryMiB = DEFAULT_MEMORY_MIB } = this.#options;
    const serialChardev = `socket,id=serial,path=${this.serialPath},server=on,wait=off`;
    return [
      ['-accel', this.accelerator === 'kvm' ? 'kvm' : 'tcg,thread=multi'],
      [...MACHINE, '-m', String(memoryMiB)],
      ['-serial', `file:${this.console.path}`],
      // The second one, so the guest calls it ttyS1.
      hasSerialLine ? ['-chardev', serialChardev, '-serial', 'chardev:serial'] : [],
      ['-chardev', `socket,id=qmp,path=${file('qmp.sock')}`, '-mon', 'chardev=qmp,mode=control'],
      this.#options.portArguments ?? usualPort(portChardev, this.#portName),
      ['-device', 'virtio-serial-pci,id=bus1'],
      ['-chardev', `socket,id=agent,path=${file('agent.sock')}`],
      ['-device', `virtserialport,bus=bus1.0,chardev=agent,name=${AGENT_PORT}`],
      Object.keys(credentials).flatMap((name) => ['-smbios', `type=11,path=${credentialFile(this.folder, name)}`]),
      ['-kernel', this.tools.kernel.image, '-initrd', file('initramfs')],
    ].flat();
  }
}
