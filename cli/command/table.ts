/** Every command: its name, what it is for, and where it is. A command is loaded when it is run, or when its options are asked for. */
import { closestWord } from '../../lib/util/closest-word.js';
import type { Command } from './command.js';

/** What is known of a command before it is loaded. */
export interface CommandEntry {
  /** For the list of commands. */
  readonly summary: string;
  /** Whether yargs is not loaded for it, as scripts run it often, or as it stays in memory. */
  readonly isQuick: boolean;
  /** Whether it is one of those that most people use, which the short help has. */
  readonly isCommon: boolean;
  load(): Promise<Command>;
}

function entry(
  summary: string,
  load: () => Promise<Command>,
  { isQuick = false, isCommon = false } = {},
): CommandEntry {
  return { summary, isQuick, isCommon, load };
}

/** The command without a name. */
export const MAIN_COMMAND = entry(
  'Carry forwards, and storage calls, over channels',
  async () => (await import('../commands/run.js')).run,
  { isQuick: true },
);

/** The commands for a running vproxy, by their names, of one word or two, in the order of the help. */
export const CONTROL_COMMANDS: Readonly<Record<string, CommandEntry>> = {
  status: entry('Show the process and its channels', async () => (await import('../commands/process.js')).status, {
    isCommon: true,
  }),
  channels: entry('List the channels, or show one', async () => (await import('../commands/channels.js')).list),
  forwards: entry('List the forwards', async () => (await import('../commands/forwards.js')).list),
  services: entry(
    'List the services that are offered here and by the peers',
    async () => (await import('../commands/services.js')).command,
  ),
  ports: entry(
    'List the ports that are announced here and by the peers',
    async () => (await import('../commands/announced-ports.js')).command,
  ),
  streams: entry('List the streams', async () => (await import('../commands/streams.js')).list),
  events: entry('Show what happens', async () => (await import('../commands/events.js')).command),
  top: entry('Show streams and channels, live', async () => (await import('../commands/top.js')).command, {
    isCommon: true,
  }),
  'forward add': entry('Add a forward', async () => (await import('../commands/forwards.js')).add),
  'forward remove': entry('Remove a forward', async () => (await import('../commands/forwards.js')).remove),
  'channel add': entry('Add a channel', async () => (await import('../commands/channel-add.js')).command),
  'channel remove': entry(
    'Remove a channel with its forwards',
    async () => (await import('../commands/channels.js')).remove,
  ),
  'egress list': entry(
    'List what the peers may reach through this side',
    async () => (await import('../commands/egress.js')).list,
  ),
  'egress test': entry(
    'Tell whether a destination may be reached, and why',
    async () => (await import('../commands/egress.js')).test,
  ),
  'stream close': entry('Reset a stream', async () => (await import('../commands/streams.js')).close),
  connect: entry(
    'Join standard input and output to a service',
    async () => (await import('../commands/connect.js')).command,
    { isQuick: true, isCommon: true },
  ),
  exec: entry('Run a command at the peer', async () => (await import('../commands/exec.js')).exec, {
    isQuick: true,
    isCommon: true,
  }),
  shell: entry('Run the login shell at the peer', async () => (await import('../commands/exec.js')).shell, {
    isQuick: true,
    isCommon: true,
  }),
  copy: entry(
    'Copy files and folders to the other side, or from it',
    async () => (await import('../commands/copy.js')).command,
    { isCommon: true },
  ),
  info: entry('Show the machine of a peer', async () => (await import('../commands/info.js')).command),
  ping: entry('Measure the round trip through a peer', async () => (await import('../commands/ping.js')).command),
  wait: entry(
    'Wait for a session, a service, or the end of a boot',
    async () => (await import('../commands/wait.js')).command,
  ),
  'log-level': entry('Set what the process logs', async () => (await import('../commands/process.js')).logLevel),
  reload: entry('Read the configuration file again', async () => (await import('../commands/process.js')).reload),
  drain: entry('Let the process end when its streams have', async () => (await import('../commands/process.js')).drain),
  upgrade: entry(
    'Let a successor go on in place of the process',
    async () => (await import('../commands/process.js')).upgrade,
  ),
  stop: entry('Let the process end', async () => (await import('../commands/process.js')).stop),
};

/** Those that need no running vproxy. */
export const LOCAL_COMMANDS: Readonly<Record<string, CommandEntry>> = {
  check: entry(
    'Check a configuration file, and print everything that is wrong with it',
    async () => (await import('../commands/check.js')).command,
    { isCommon: true },
  ),
  genkey: entry('Make a key for --key of both sides', async () => (await import('../commands/genkey.js')).command),
  ps: entry('List the vproxys that run on this machine', async () => (await import('../commands/ps.js')).command),
  play: entry('Show the recording of a terminal', async () => (await import('../commands/play.js')).command),
  doctor: entry('Look for what usually goes wrong', async () => (await import('../commands/doctor.js')).command, {
    isCommon: true,
  }),
  'libvirt-xml': entry("Print a port's XML for libvirt", async () => (await import('../commands/ports.js')).libvirtXml),
  'qemu-args': entry("Print a port's arguments for QEMU", async () => (await import('../commands/ports.js')).qemuArgs),
  'storage-emulator': entry(
    'Answer storage calls from a file of recorded replies',
    async () => (await import('../commands/storage-emulator.js')).command,
  ),
  'storage link': entry(
    'Put vproxy-storage in the place of a utility',
    async () => (await import('../commands/storage-links.js')).link,
  ),
  'storage unlink': entry('Take such a link away', async () => (await import('../commands/storage-links.js')).unlink),
  'pipe-create': entry(
    "Make the FIFOs of QEMU's pipe chardev",
    async () => (await import('../commands/ports.js')).pipeCreate,
  ),
  completion: entry(
    'Print the completion of a shell: bash, zsh or fish',
    async () => (await import('../commands/completion.js')).completion,
  ),
  help: entry('Show the help of a command', async () => (await import('../commands/help.js')).command),
};

/** All that have a name, in the order of the help. */
export const NAMED_COMMANDS: Readonly<Record<string, CommandEntry>> = { ...LOCAL_COMMANDS, ...CONTROL_COMMANDS };

/** A command that is loaded, with its name and its line in the list of commands. */
export type LoadedCommand = Command & { readonly name: string; readonly summary: string };

/** All commands: first the one without a name, then the others in the order of the help. For the manual and specs. */
export async function loadCommands(): Promise<LoadedCommand[]> {
  const entries = [['', MAIN_COMMAND] as const, ...Object.entries(NAMED_COMMANDS)];
  return Promise.all(entries.map(async ([name, entry]) => ({ ...(await entry.load()), name, summary: entry.summary })));
}

/** What a command line names. */
export interface FoundCommand {
  readonly name: string;
  /** Null where `name` is the first word of several commands, and no second word says which. */
  readonly entry: CommandEntry | null;
  /** The words behind the name. */
  readonly words: readonly string[];
}

/** The command that `args` begin with; that of `MAIN_COMMAND` has an empty name. */
export function findCommand(args: readonly string[]): FoundCommand {
  const [first = '', second = ''] = args;
  for (const [name, count] of [
    [`${first} ${second}`, 2],
    [first, 1],
  ] as const) {
    const found = Object.hasOwn(NAMED_COMMANDS, name) ? NAMED_COMMANDS[name] : undefined;
    if (found !== undefined) return { name, entry: found, words: args.slice(count) };
  }
  if (secondWords(first).length > 0) return { name: first, entry: null, words: args.slice(1) };
  return { name: '', entry: MAIN_COMMAND, words: args };
}

/** What may be behind the first word of commands of two words. */
export function secondWords(first: string): string[] {
  return Object.keys(NAMED_COMMANDS).flatMap((name) =>
    name.startsWith(`${first} `) ? [name.slice(first.length + 1)] : [],
  );
}

/** What may be the first word. */
export function firstWords(): string[] {
  return [...new Set(Object.keys(NAMED_COMMANDS).map((name) => name.replace(/ .*/, '')))];
}

// What people type who know other programs.

/** By a first word that is no command: what is meant, as it is typed behind `vproxy`. */
const FIRST_MEANT: ReadonlyMap<string, readonly string[]> = new Map(
  (
    [
      [['-c CHANNEL'], 'start up serve daemon listen open'],
      [['--version'], 'version'],
      [['channel add', 'forward add'], 'add new create'],
      [['channel remove', 'forward remove'], 'remove rm del delete'],
      [['channels', 'status'], 'list ls show'],
      [['check'], 'config validate lint test'],
      [['connect'], 'nc ncat netcat socat proxy'],
      [['copy'], 'cp scp rsync put get push pull'],
      [['doctor'], 'diagnose diag debug'],
      [['events'], 'log logs journal watch tail follow monitor'],
      [['exec'], 'run command cmd'],
      [['forward add'], 'fwd port-forward tunnel'],
      [['genkey'], 'key keygen'],
      [['log-level'], 'loglevel verbose'],
      [['shell'], 'ssh sh bash login attach enter console terminal'],
      [['stop', 'drain'], 'kill quit exit shutdown down'],
      [['top'], 'metrics'],
      [['upgrade', 'reload'], 'restart update'],
    ] as const
  ).flatMap(([meant, words]) => words.split(' ').map((word) => [word, meant] as const)),
);

/** Second words of commands, by those that people type in their place. */
const SECOND_MEANT: Readonly<Record<string, readonly string[]>> = {
  add: ['new', 'create', 'open'],
  close: ['rm', 'remove', 'del', 'delete', 'kill', 'reset', 'stop'],
  remove: ['rm', 'del', 'delete', 'close', 'kill', 'stop'],
};

/** The commands that may be meant by a first word that is none; none where nothing is like it. */
export function meantCommands(word: string): readonly string[] {
  const close = closestWord(word, firstWords());
  return FIRST_MEANT.get(word.toLowerCase()) ?? (close === undefined ? [] : [close]);
}

/** The command that may be meant by `first` and a second word that is none of its own; undefined where nothing is like it. */
export function meantSecond(first: string, word: string): string | undefined {
  const known = secondWords(first);
  // What is listed has a command of its own: `channels`.
  if (/^(?:list|ls|show|status)$/.test(word) && Object.hasOwn(NAMED_COMMANDS, `${first}s`)) return `${first}s`;
  const second = known.find((one) => SECOND_MEANT[one]?.includes(word)) ?? closestWord(word, known);
  return second === undefined ? undefined : `${first} ${second}`;
}
