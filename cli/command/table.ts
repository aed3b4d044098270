/** Every command: its name, summary and module. A command is loaded when it runs, or when its options are needed. */
import { closestWord } from '../../lib/util/closest-word.js';
import type { Command } from './command.js';

/** A command that is not loaded yet. */
export interface CommandEntry {
  /** Its line in the list of commands. */
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
  'Carry forwards and storage calls over channels',
  () => import('../commands/run.js'),
  'run',
);

const egressQuestions = () => import('../commands/egress-questions.js');
const egressChange = () => import('../commands/egress-change.js');
const freezes = () => import('../commands/freeze.js');
const forwards = () => import('../commands/forwards.js');
const channels = () => import('../commands/channels.js');
const helps = () => import('../commands/help.js');
const jobs = () => import('../commands/jobs.js');
const exec = () => import('../commands/exec.js');
const lists = () => import('../commands/lists.js');
const ports = () => import('../commands/hypervisor.js');
const process = () => import('../commands/process.js');
const storageLinks = () => import('../commands/storage-links.js');

/** The commands for a running vproxy, by names of one or two words, in the order of the help. */
export const CONTROL_COMMANDS: Readonly<Record<string, CommandEntry>> = {
  status: entry('Show the process and its channels', () => import('../commands/status.js')),
  channels: entry('List the channels, or show one', channels, 'list'),
  forwards: entry('List the forwards', lists, 'forwards'),
  services: entry('List the services offered here and by the peers', lists, 'services'),
  ports: entry('List the ports announced here and by the peers', lists, 'ports'),
  streams: entry('List the streams', lists, 'streams'),
  events: entry('Show events as they happen', () => import('../commands/events.js')),
  top: entry('Show streams and channels, live', () => import('../commands/top.js')),
  'forward add': entry('Add a forward', forwards, 'add'),
  'forward remove': entry('Remove a forward', forwards, 'remove'),
  'channel add': entry('Add a channel', () => import('../commands/channel-add.js')),
  'channel remove': entry('Remove a channel with its forwards', channels, 'remove'),
  'egress list': entry('List what the peers may reach through this side', lists, 'egresses'),
  'egress test': entry(
    'Test whether a destination may be reached, and why',
    () => import('../commands/egress-test.js'),
  ),
  'egress rules': entry('List the rules of the egresses, with those added for a while', lists, 'egressRules'),
  'egress allow': entry('Allow more destinations, for a while', egressChange, 'allow'),
  'egress block': entry('Deny everything, and reset what is open', egressChange, 'block'),
  'egress reset': entry('Go back to the configured rules', egressChange, 'reset'),
  'egress stats': entry('Count what was reached and refused in the last hour', lists, 'egressStats'),
  'egress asked': entry('List the destinations that wait for an answer', lists, 'egressQuestions'),
  'egress answer': entry('Allow or deny a destination that waits', egressQuestions, 'answer'),
  'egress watch': entry('Answer waiting destinations live, by a key', egressQuestions, 'watch'),
  'stream close': entry('Reset a stream', channels, 'close'),
  connect: entry('Connect standard input and output to a service', () => import('../commands/connect.js')),
  exec: entry('Run a command on the peer', exec, 'exec'),
  shell: entry('Run the login shell on the peer', exec, 'shell'),
  jobs: entry('List the commands that outlive their caller', jobs, 'list'),
  'jobs stop': entry('End such a command', jobs, 'stop'),
  attach: entry('Read the output of such a command, and write to it', () => import('../commands/attach.js')),
  copy: entry('Copy files and folders to or from the peer', () => import('../commands/copy.js')),
  info: entry("Show a peer's machine", () => import('../commands/info.js')),
  freeze: entry("Freeze file systems of a peer's machine, for a snapshot", freezes, 'freeze'),
  thaw: entry('Thaw them', freezes, 'thaw'),
  ping: entry('Measure the round-trip time to a peer', () => import('../commands/ping.js')),
  wait: entry('Wait for a session, a service, or the end of a boot', () => import('../commands/wait.js')),
  'log-level': entry('Show or set the log level', process, 'logLevel'),
  reload: entry('Reload the configuration file', process, 'reload'),
  drain: entry('Stop the process once its streams have ended', process, 'drain'),
  upgrade: entry('Hand the process over to a successor', process, 'upgrade'),
  stop: entry('Stop the process', process, 'stop'),
};

/** The commands that need no running vproxy. */
export const LOCAL_COMMANDS: Readonly<Record<string, CommandEntry>> = {
  check: entry('Check a configuration file, and report all its problems', () => import('../commands/check.js')),
  genkey: entry('Generate a key for --key on both sides', () => import('../commands/genkey.js')),
  ps: entry('List the vproxy processes on this machine', () => import('../commands/ps.js')),
  web: {
    summary: 'Serve a page that shows all machines',
    load: async () => (await import('../commands/web.js')).loadWeb(),
  },
  play: entry('Play a terminal recording', () => import('../commands/play.js')),
  doctor: entry('Look for common problems', () => import('../commands/doctor.js')),
  'egress nft': entry('Print the rules that redirect programs to an egress', () => import('../commands/egress-nft.js')),
  'libvirt-xml': entry('Print the libvirt XML for a port', ports, 'libvirtXml'),
  'qemu-args': entry('Print the QEMU arguments for a port', ports, 'qemuArgs'),
  'storage-emulator': entry(
    'Answer storage calls from a file of recorded replies',
    () => import('../commands/storage-emulator.js'),
  ),
  'storage link': entry('Link the name of a storage utility to vproxy-storage', storageLinks, 'link'),
  'storage unlink': entry('Remove such a link', storageLinks, 'unlink'),
  'pipe-create': entry("Create the FIFOs of QEMU's pipe chardev", ports, 'pipeCreate'),
  completion: entry('Print the completion script for bash, zsh or fish', () => import('../commands/completion.js')),
  help: entry('Show the help of a command', helps, 'help'),
  version: entry('Show the versions', helps, 'version'),
};

/** The most used commands, for the short help. */
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

/** Commands that do not load yargs: scripts run them often, or they stay in memory. */
export const QUICK_COMMANDS: readonly string[] = [
  ...['', 'connect', 'exec', 'shell'],
  ...['status', 'channels', 'forwards', 'services', 'ports', 'streams', 'wait'],
];

/** All commands with a name, in the order of the help. */
export const NAMED_COMMANDS: Readonly<Record<string, CommandEntry>> = { ...LOCAL_COMMANDS, ...CONTROL_COMMANDS };

export type LoadedCommand = Command & { readonly name: string; readonly summary: string };

/** All commands: first the one without a name, then the others in the order of the help. For the manual and specs. */
export async function loadCommands(): Promise<LoadedCommand[]> {
  const entries = [['', MAIN_COMMAND] as const, ...Object.entries(NAMED_COMMANDS)];
  return Promise.all(entries.map(async ([name, entry]) => ({ ...(await entry.load()), name, summary: entry.summary })));
}

export interface FoundCommand {
  readonly name: string;
  /** Null if `name` is the first word of several commands, and no second word selects one. */
  readonly entry: CommandEntry | null;
  /** The words after the name. */
  readonly words: readonly string[];
}

/** The command that `args` begin with; `MAIN_COMMAND` has an empty name. */
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

/** The second words of the commands that begin with `first`. */
export function secondWords(first: string): string[] {
  return Object.keys(NAMED_COMMANDS).flatMap((name) =>
    name.startsWith(`${first} `) ? [name.slice(first.length + 1)] : [],
  );
}

export function firstWords(): string[] {
  return [...new Set(Object.keys(NAMED_COMMANDS).map((name) => name.replace(/ .*/, '')))];
}

// Words of other programs.

/** The intended commands, as typed after `vproxy`, by an unknown first word. */
const FIRST_MEANT: ReadonlyMap<string, readonly string[]> = new Map(
  (
    [
      [['-c CHANNEL'], 'start up serve daemon listen open'],
      [['channel add', 'forward add'], 'add new create'],
      [['channel remove', 'forward remove'], 'remove rm del delete'],
      [['channels', 'status'], 'list ls show'],
      [['check'], 'config validate lint test'],
      [['connect'], 'nc ncat netcat socat proxy'],
      [['copy'], 'cp scp rsync put get push pull'],
      [['doctor'], 'diagnose diag debug'],
      [['events'], 'watch follow monitor'],
      [['events --level info'], 'log logs journal tail'],
      [['channels LABEL'], 'inspect describe'],
      [['exec'], 'run command cmd'],
      [['forward add'], 'fwd port-forward tunnel'],
      [['genkey'], 'key keygen'],
      [['log-level'], 'loglevel verbose'],
      [['shell'], 'ssh sh bash login enter console terminal'],
      [['stop', 'drain'], 'kill quit exit shutdown down'],
      [['top'], 'metrics'],
      [['upgrade', 'reload'], 'restart update'],
    ] as const
  ).flatMap(([meant, words]) => words.split(' ').map((word) => [word, meant] as const)),
);

/** Unknown second words that users may type, by the second word that is meant. */
const SECOND_MEANT: Readonly<Record<string, readonly string[]>> = {
  add: ['new', 'create', 'open'],
  close: ['rm', 'remove', 'del', 'delete', 'kill', 'reset', 'stop'],
  remove: ['rm', 'del', 'delete', 'close', 'kill', 'stop'],
};

/** Suggests commands for an unknown first word; empty if nothing is similar. */
export function meantCommands(word: string): readonly string[] {
  const close = closestWord(word, firstWords());
  return FIRST_MEANT.get(word.toLowerCase()) ?? (close === undefined ? [] : [close]);
}

/** Suggests a command for `first` and an unknown second word; undefined if nothing is similar. */
export function meantSecond(first: string, word: string): string | undefined {
  const known = secondWords(first);
  // A list has a command of its own: `channels`.
  if (/^(?:list|ls|show|status)$/.test(word) && Object.hasOwn(NAMED_COMMANDS, `${first}s`)) return `${first}s`;
  const second = known.find((one) => SECOND_MEANT[one]?.includes(word)) ?? closestWord(word, known);
  return second === undefined ? undefined : `${first} ${second}`;
}
