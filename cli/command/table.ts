/** Every command: its name, what it is for, and where it is. A command is loaded when it is run, or when its options are asked for. */
import { closestWord } from '../../lib/util/closest-word.js';
import type { Command } from './command.js';

/** What is known of a command before it is loaded. */
export interface CommandEntry {
  /** For the list of commands. */
  readonly summary: string;
  load(): Promise<Command>;
}

/** The command that a module exports as `name`. */
function entry<N extends string = 'command'>(
  summary: string,
  load: () => Promise<Readonly<Record<NoInfer<N>, Command>>>,
  name = 'command' as N,
): CommandEntry {
  return { summary, load: async () => (await load())[name] };
}

/** The command without a name. */
export const MAIN_COMMAND = entry(
  'Carry forwards, and storage calls, over channels',
  () => import('../commands/run.js'),
  'run',
);

const forwards = () => import('../commands/forwards.js');
const channels = () => import('../commands/channels.js');
const exec = () => import('../commands/exec.js');
const lists = () => import('../commands/lists.js');
const ports = () => import('../commands/ports.js');
const process = () => import('../commands/process.js');
const storageLinks = () => import('../commands/storage-links.js');

/** The commands for a running vproxy, by their names, of one word or two, in the order of the help. */
export const CONTROL_COMMANDS: Readonly<Record<string, CommandEntry>> = {
  status: entry('Show the process and its channels', process, 'status'),
  channels: entry('List the channels, or show one', channels, 'list'),
  forwards: entry('List the forwards', lists, 'forwards'),
  services: entry('List the services that are offered here and by the peers', lists, 'services'),
  ports: entry('List the ports that are announced here and by the peers', lists, 'ports'),
  streams: entry('List the streams', lists, 'streams'),
  events: entry('Show what happens', () => import('../commands/events.js')),
  top: entry('Show streams and channels, live', () => import('../commands/top.js')),
  'forward add': entry('Add a forward', forwards, 'add'),
  'forward remove': entry('Remove a forward', forwards, 'remove'),
  'channel add': entry('Add a channel', () => import('../commands/channel-add.js')),
  'channel remove': entry('Remove a channel with its forwards', channels, 'remove'),
  'egress list': entry('List what the peers may reach through this side', lists, 'egresses'),
  'egress test': entry(
    'Tell whether a destination may be reached, and why',
    () => import('../commands/egress-test.js'),
  ),
  'stream close': entry('Reset a stream', channels, 'close'),
  connect: entry('Join standard input and output to a service', () => import('../commands/connect.js')),
  exec: entry('Run a command at the peer', exec, 'exec'),
  shell: entry('Run the login shell at the peer', exec, 'shell'),
  copy: entry('Copy files and folders to the other side, or from it', () => import('../commands/copy.js')),
  info: entry('Show the machine of a peer', () => import('../commands/info.js')),
  ping: entry('Measure the round trip through a peer', () => import('../commands/ping.js')),
  wait: entry('Wait for a session, a service, or the end of a boot', () => import('../commands/wait.js')),
  'log-level': entry('Set what the process logs', process, 'logLevel'),
  reload: entry('Read the configuration file again', process, 'reload'),
  drain: entry('Let the process end when its streams have', process, 'drain'),
  upgrade: entry('Let a successor go on in place of the process', process, 'upgrade'),
  stop: entry('Let the process end', process, 'stop'),
};

/** Those that need no running vproxy. */
export const LOCAL_COMMANDS: Readonly<Record<string, CommandEntry>> = {
  check: entry(
    'Check a configuration file, and print everything that is wrong with it',
    () => import('../commands/check.js'),
  ),
  genkey: entry('Make a key for --key of both sides', () => import('../commands/genkey.js')),
  ps: entry('List the vproxys that run on this machine', () => import('../commands/ps.js')),
  play: entry('Show the recording of a terminal', () => import('../commands/play.js')),
  doctor: entry('Look for what usually goes wrong', () => import('../commands/doctor.js')),
  'libvirt-xml': entry("Print a port's XML for libvirt", ports, 'libvirtXml'),
  'qemu-args': entry("Print a port's arguments for QEMU", ports, 'qemuArgs'),
  'storage-emulator': entry(
    'Answer storage calls from a file of recorded replies',
    () => import('../commands/storage-emulator.js'),
  ),
  'storage link': entry('Put vproxy-storage in the place of a utility', storageLinks, 'link'),
  'storage unlink': entry('Take such a link away', storageLinks, 'unlink'),
  'pipe-create': entry("Make the FIFOs of QEMU's pipe chardev", ports, 'pipeCreate'),
  completion: entry('Print the completion of a shell: bash, zsh or fish', () => import('../commands/completion.js')),
  help: entry('Show the help of a command', () => import('../commands/help.js')),
};

/** Those that most people use, which the short help has. */
export const COMMON_COMMANDS: readonly string[] = [
  'status',
  'top',
  'connect',
  'exec',
  'shell',
  'copy',
  'check',
  'doctor',
];

/** Those for which yargs is not loaded, as scripts run them often, or as what they run stays in memory. */
export const QUICK_COMMANDS: readonly string[] = ['', 'connect', 'exec', 'shell'];

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
