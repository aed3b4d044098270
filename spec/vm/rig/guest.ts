/** A guest under QEMU with a virtio-serial port to test, and an agent on a separate port. */
import { type ChildProcess, spawn } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { type Accelerator, chooseAccelerator } from '../../../tools/vm/accel.js';
import { BOOT_OPTIONS, machineArguments } from '../../../tools/vm/machine.js';
import { eventually } from '../../helpers/time.js';
import { Agent } from './agent.js';
import { keptState } from './booted-states.js';
import { type GuestOptions, type GuestPlan, PORT_NAME } from './guest-options.js';
import { AGENT_PORT, LINK_PORTS } from './init-script.js';
import { BUSYBOX_SYSTEM } from './initramfs.js';
import { Qmp } from './qmp.js';
import { type SshKeys, sshKeys } from './ssh.js';
import { findTools, type Tools } from './tools.js';

/** The default path of the port under test in the guest. */
export const PORT_PATH = `/dev/virtio-ports/${PORT_NAME}`;

/** The folder in the guest for the files of `Guest.addFiles`. */
export const SHARED_FOLDER = '/opt/rig/share';

/** Under emulation, on a busy machine. */
const BOOT_MS = 180_000;
const STATE_MS = 60_000;

/** In bytes a second: faster than any disk. */
const MIGRATION_BANDWIDTH = 1e11;

const shellQuote = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

/** The id of the port under test in QEMU; its bus is `bus0.0`, its chardev `port`. */
const PORT_ID = 'port0';

/** The machine of all guests. Under emulation, a second processor slows down each and saves nothing. */
const MACHINE = machineArguments('x64', BOOT_OPTIONS);

/** The QEMU arguments for the port under test and its bus. */
const usualPort = (path: string, portName: string): readonly string[] => [
  ...['-device', 'virtio-serial-pci,id=bus0'],
  ...['-chardev', `socket,path=${path},server=on,wait=off,id=port`],
  ...['-device', `virtserialport,bus=bus0.0,chardev=port,name=${portName},id=${PORT_ID}`],
];

/** Sets some properties in the arguments of a device. */
const withProperties = (device: string, properties: Readonly<Record<string, string>>): string =>
  [
    ...device.split(',').filter((property) => !(property.replace(/=.*/, '') in properties)),
    ...Object.entries(properties).map(([name, value]) => `${name}=${value}`),
  ].join(',');

/** Whether these are the default bus and port, regardless of ids, chardev and name. */
function isUsualPort(words: readonly string[]): boolean {
  const devices = words.filter((_, index) => words[index - 1] === '-device').map((value) => value.split(',')[0]);
  return /^virtio-serial(-pci)? virtserialport$/.test(devices.join(' '));
}

/**
 * Boots a guest and waits until its agent answers. One with the default port starts from the state of a booted one, which it
 * creates if missing. Rejects, with the end of the console, when the agent does not answer.
 */
export async function bootGuest(plan: GuestPlan = () => ({})): Promise<Guest> {
  const tools = findTools();
  const accelerator = await chooseAccelerator(tools);
  return makeGuest({ tools, accelerator, plan, isFirst: false });
}

interface Making {
  readonly tools: Tools;
  readonly accelerator: Accelerator;
  readonly plan: GuestPlan;
  /** Whether to boot even if there is a state. */
  readonly isFirst: boolean;
}

async function makeGuest({ tools, accelerator, plan, isFirst }: Making): Promise<Guest> {
  const folder = mkdtempSync(join(tmpdir(), 'vproxy-vm-'));
  let guest: Guest | undefined;
  try {
    const options = await plan(folder);
    const { system = BUSYBOX_SYSTEM, portArguments } = options;
    mkdirSync(join(folder, 'share'));
    writeCredentials(folder, { ...system.credentials, ...options.credentials });
    const archive = join(folder, 'initramfs');
    system.writeArchive(archive, tools);
    const agent = await Agent.listen(join(folder, 'agent.sock'));
    const qmp = await Qmp.listen(join(folder, 'qmp.sock'));
    guest = new Guest({ folder, tools, accelerator, keys: sshKeys(tools), agent, qmp, options });
    const { stateFolder } = system;
    const isUsual = options.processors === undefined && (portArguments === undefined || isUsualPort(portArguments));
    if (isFirst || !isUsual || stateFolder === undefined) {
      await guest.start();
      return guest;
    }
    const hardware = [...MACHINE, String(system.memoryMiB)];
    const state = await keptState({ tools, accelerator, system, stateFolder, archive, hardware }, async (temporary) => {
      const first = await makeGuest({ tools, accelerator, plan: () => ({ system }), isFirst: true });
      try {
        if (system.untilBooted !== undefined) await first.agent.output(system.untilBooted, { timeoutMs: BOOT_MS });
        await first.writeState(temporary);
      } finally {
        await first.stop();
      }
    });
    await guest.startFrom(state);
    return guest;
  } catch (error) {
    const console = guest?.consoleTail() ?? '';
    if (guest === undefined) rmSync(folder, { recursive: true, force: true });
    else await guest.stop();
    throw new Error(`the guest did not come up: ${String(error)}\n${console}`, { cause: error });
  }
}

const credentialFile = (folder: string, name: string): string => join(folder, `credential-${name}`);

/** In files, as any user can see the arguments of QEMU. */
function writeCredentials(folder: string, credentials: Readonly<Record<string, Buffer>>): void {
  for (const [name, bytes] of Object.entries(credentials)) {
    const text = `io.systemd.credential.binary:${name}=${bytes.toString('base64')}`;
    writeFileSync(credentialFile(folder, name), text, { mode: 0o600 });
  }
}

interface GuestParts {
  /** A folder for this guest on the host, for use by the test; removed with the guest. */
  readonly folder: string;
  readonly tools: Tools;
  readonly accelerator: Accelerator;
  readonly keys: SshKeys;
  /** Runs commands in the guest. */
  readonly agent: Agent;
  readonly qmp: Qmp;
  readonly options: GuestOptions;
}

/** The block device on which states are saved; the guest does not see it. */
const SNAPSHOTS = 'snapshots';
/** The memory of the guest and some reserve; the file is sparse. */
const SNAPSHOTS_BYTES = 2 * 1024 ** 3;

/** A running guest. The caller that boots it stops it. */
export class Guest {
  /** QEMU's unix socket for the host's end of the port under test, unless another chardev was requested. */
  readonly channelPath: string;
  /** The path of the port under test in the guest. */
  readonly portPath: string;
  /** QEMU's unix socket for the host's end of `/dev/ttyS1`, unless the arguments for the ports name another. */
  readonly serialPath: string;
  readonly agent: Agent;
  readonly tools: Tools;
  readonly keys: SshKeys;
  readonly accelerator: Accelerator;
  readonly folder: string;

  readonly #qmp: Qmp;
  readonly #options: GuestOptions;
  readonly #portName: string;
  readonly #consolePath: string;
  #hasShare = false;
  #hasSnapshots = false;
  #child: ChildProcess | undefined;
  #ended: Promise<void> | undefined;

  constructor(parts: GuestParts) {
    this.folder = parts.folder;
    this.tools = parts.tools;
    this.accelerator = parts.accelerator;
    this.keys = parts.keys;
    this.agent = parts.agent;
    this.#qmp = parts.qmp;
    this.#options = parts.options;
    this.#portName = parts.options.portName ?? PORT_NAME;
    this.channelPath = join(parts.folder, 'port.sock');
    this.portPath = `/dev/virtio-ports/${this.#portName}`;
    this.serialPath = join(parts.folder, 'serial.sock');
    this.#consolePath = join(parts.folder, 'console.log');
  }

  /** The console output of the kernel, init and the rig's programs, through every boot. */
  readConsole(): string {
    try {
      return readFileSync(this.#consolePath, 'utf8').replaceAll('\r', '');
    } catch {
      // QEMU has not opened it yet.
      return '';
    }
  }

  consoleTail(): string {
    return this.readConsole().split('\n').slice(-100).join('\n');
  }

  /** Copies the console log to a file that outlives the guest, and returns its path. */
  keepConsole(): string {
    const path = join(tmpdir(), `${basename(this.folder)}-console.log`);
    copyFileSync(this.#consolePath, path);
    return path;
  }

  /** Starts QEMU and waits for the agent. */
  async start(): Promise<void> {
    const up = this.agent.waitForHello(BOOT_MS);
    up.catch(() => undefined);
    await this.#startQemu(up, this.#portWords());
  }

  /** Starts QEMU with a state written by `writeState`, and corrects the guest's clock. */
  async startFrom(path: string): Promise<void> {
    // The state has the port under its default name.
    const words = this.#portWords().map((word) =>
      word.startsWith('virtserialport,') ? withProperties(word, { name: PORT_NAME, id: PORT_ID }) : word,
    );
    await this.#startQemu(Promise.resolve(), [...words, '-incoming', `exec:exec cat ${shellQuote(path)}`]);
    const isPaused = async () => ((await this.#qmp.execute('query-status')) as { status: string }).status === 'paused';
    await eventually(isPaused, { what: 'the state of an earlier guest', timeoutMs: STATE_MS });
    await this.resume();
    await this.agent.greet();
    await this.agent.output(`date -s @${Math.round(Date.now() / 1000)}`);
    if (this.#portName !== PORT_NAME) await this.#renamePort();
  }

  /** Unplugs the port, and plugs in that of the options, which has another name. */
  async #renamePort(): Promise<void> {
    const port = this.#portWords().find((word) => word.startsWith('virtserialport,')) ?? '';
    await this.unplugPort();
    // The human monitor accepts command-line arguments.
    const words = { 'command-line': `device_add ${withProperties(port, { bus: 'bus0.0' })}` };
    const complaint = await this.#qmp.execute('human-monitor-command', words);
    if (complaint !== '') throw new Error(`QEMU: ${words['command-line']}: ${String(complaint)}`);
    const link = `rm -f ${PORT_PATH}; until [ -e ${this.portPath} ]; do ${LINK_PORTS}; usleep 20000; done`;
    await this.agent.output(link);
  }

  /** Unplugs the port under test; resolves when it is removed. */
  async unplugPort(): Promise<void> {
    const from = this.#qmp.events.length;
    await this.#qmp.execute('device_del', { id: PORT_ID });
    const isDeleted = () =>
      this.#qmp.events
        .slice(from)
        .some(({ event, data }) => event === 'DEVICE_DELETED' && data?.['device'] === PORT_ID);
    await eventually(isDeleted, { what: 'DEVICE_DELETED' });
  }

  /** Plugs the port under test in again. */
  async plugPort(): Promise<void> {
    const device = { driver: 'virtserialport', bus: 'bus0.0', chardev: 'port', name: this.#portName, id: PORT_ID };
    await this.#qmp.execute('device_add', device);
  }

  /** Writes the state of the whole machine to a file, and leaves the machine stopped. */
  async writeState(path: string): Promise<void> {
    await this.pause();
    await this.#qmp.execute('migrate-set-parameters', { 'max-bandwidth': MIGRATION_BANDWIDTH });
    await this.#qmp.execute('migrate', { uri: `exec:exec cat > ${shellQuote(path)}` });
    const query = async () => (await this.#qmp.execute('query-migrate')) as { readonly status?: string };
    const isWritten = async () => (await query()).status === 'completed';
    await eventually(isWritten, { what: 'the state of the guest', timeoutMs: STATE_MS });
  }

  /** Adds files of the host to the guest's `SHARED_FOLDER`, under their names. After that, no snapshot can be taken. */
  async addFiles(...paths: readonly string[]): Promise<void> {
    for (const path of paths) copyFileSync(path, join(this.folder, 'share', basename(path)));
    if (this.#hasShare) return;
    this.#hasShare = true;
    const options = 'trans=virtio,version=9p2000.L,ro,msize=262144';
    await this.agent.output(`mkdir -p ${SHARED_FOLDER} && mount -t 9p -o ${options} rig ${SHARED_FOLDER}`);
  }

  /** Starts QEMU and waits until its monitor answers and `up` is settled. */
  async #startQemu(up: Promise<void>, words: readonly string[]): Promise<void> {
    const errors: Buffer[] = [];
    // If the test process is killed, the kernel kills QEMU, too.
    const args = ['--pdeathsig', 'KILL', this.tools.qemu, ...this.#arguments(words)];
    const child = spawn(this.tools.setpriv, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    this.#child = child;
    child.stderr.on('data', (chunk: Buffer) => errors.push(chunk));
    child.on('error', (error) => errors.push(Buffer.from(error.message)));
    this.#ended = new Promise((resolve) => child.once('close', () => resolve()));
    const died = this.#ended.then(() => {
      throw new Error(`QEMU ended: ${Buffer.concat(errors).toString()}`);
    });
    died.catch(() => undefined);
    await Promise.race([this.#qmp.start(), died]);
    await Promise.race([up, died]);
  }

  /** Resets the machine, as its reset button would, and waits until the agent of the new boot answers. */
  async reset(): Promise<void> {
    const up = this.agent.waitForHello(BOOT_MS);
    await this.#qmp.execute('system_reset');
    this.#hasShare = false;
    await up;
  }

  async pause(): Promise<void> {
    await this.#qmp.execute('stop');
  }

  async resume(): Promise<void> {
    await this.#qmp.execute('cont');
  }

  /** Saves the state of the whole machine, which is stopped meanwhile, once its ports have no data left for the host. */
  async saveSnapshot(name: string): Promise<void> {
    if (!this.#hasSnapshots) await this.#addSnapshots();
    await this.pause();
    try {
      // QEMU 7.2 marks a device as broken when it loads a state in which a port waits for its reader.
      await eventually(async () => (await this.#heldCount()) === 0, { what: 'QEMU to hand on what the ports hold' });
      await this.#qmp.executeJob('snapshot-save', { tag: name, vmstate: SNAPSHOTS, devices: [SNAPSHOTS] });
    } finally {
      await this.resume();
    }
  }

  /** Restores a saved state; the sockets on the host stay as they are. */
  async loadSnapshot(name: string): Promise<void> {
    await this.startLoaded(name);
    await this.agent.greet();
  }

  /** Likewise, without waiting for the agent. */
  async startLoaded(name: string): Promise<void> {
    await this.#qmp.executeJob('snapshot-load', { tag: name, vmstate: SNAPSHOTS, devices: [SNAPSHOTS] });
  }

  /** The guest's buffers that its devices have taken but not yet returned. */
  async #heldCount(): Promise<number> {
    let sum = 0;
    for (const { path } of (await this.#qmp.execute('x-query-virtio')) as { path: string }[]) {
      const { 'num-vqs': count } = (await this.#qmp.execute('x-query-virtio-status', { path })) as {
        'num-vqs': number;
      };
      for (let queue = 0; queue < count; queue += 1) {
        sum += ((await this.#qmp.execute('x-query-virtio-queue-status', { path, queue })) as { inuse: number }).inuse;
      }
    }
    return sum;
  }

  /** QEMU creates the image itself, so no other program is needed. */
  async #addSnapshots(): Promise<void> {
    const file = { driver: 'file', filename: join(this.folder, 'snapshots.qcow2') };
    const options = { driver: 'qcow2', file: 'snapshots-file', size: SNAPSHOTS_BYTES };
    await this.#qmp.executeJob('blockdev-create', { options: { ...file, size: 0 } });
    await this.#qmp.execute('blockdev-add', { ...file, 'node-name': 'snapshots-file' });
    await this.#qmp.executeJob('blockdev-create', { options });
    await this.#qmp.execute('blockdev-add', { driver: 'qcow2', file: 'snapshots-file', 'node-name': SNAPSHOTS });
    this.#hasSnapshots = true;
  }

  /** Ends QEMU and removes the guest's folder. */
  async stop(): Promise<void> {
    this.#child?.kill('SIGKILL');
    await this.#ended;
    this.agent.close();
    this.#qmp.close();
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** The arguments for the ports under test, and for the second serial line, ttyS1 in the guest. */
  #portWords(): readonly string[] {
    const words = this.#options.portArguments ?? usualPort(this.channelPath, this.#portName);
    const onBus0 = words.map((word) => (/^virtio-serial(-pci)?$/.test(word) ? `${word},id=bus0` : word));
    if (words.includes('-serial')) return onBus0;
    const chardev = `socket,id=serial,path=${this.serialPath},server=on,wait=off`;
    return [...onBus0, '-chardev', chardev, '-serial', 'chardev:serial'];
  }

  /** `words` are the arguments for the ports under test. */
  #arguments(words: readonly string[]): string[] {
    const file = (name: string) => join(this.folder, name);
    const { system = BUSYBOX_SYSTEM, processors = 1 } = this.#options;
    const credentials = Object.keys({ ...system.credentials, ...this.#options.credentials });
    return [
      ['-accel', this.accelerator === 'kvm' ? 'kvm' : 'tcg,thread=multi'],
      [...MACHINE, '-smp', String(processors), '-m', String(system.memoryMiB)],
      ['-serial', `file:${this.#consolePath}`],
      words,
      ['-chardev', `socket,id=qmp,path=${file('qmp.sock')}`, '-mon', 'chardev=qmp,mode=control'],
      ['-fsdev', `local,id=share,path=${file('share')},security_model=none,readonly=on`],
      ['-device', 'virtio-9p-pci,fsdev=share,mount_tag=rig,addr=0x10'],
      ['-device', 'virtio-serial-pci,id=bus1,addr=0x11'],
      ['-chardev', `socket,id=agent,path=${file('agent.sock')}`],
      ['-device', `virtserialport,bus=bus1.0,chardev=agent,name=${AGENT_PORT}`],
      credentials.flatMap((name) => ['-smbios', `type=11,path=${credentialFile(this.folder, name)}`]),
      ['-kernel', this.tools.kernel.image, '-initrd', file('initramfs')],
    ].flat();
  }
}
