/** Every command that yargs does not read: its name, what it is for, and where it is. */
import type { Command } from './arguments.js';

/** A command before it is loaded. */
export interface CommandEntry {
  /** For the list of commands. */
  readonly summary: string;
  load(): Promise<Command>;
}

/** The commands for a vproxy that runs, by their names, of one word or two, in the order of the help. */
export const CONTROL_COMMANDS: Readonly<Record<string, CommandEntry>> = {
  status: entry('Show the process and its channels', () => import('../commands/status.js')),
  channels: entry('List the channels, or show one', () => import('../commands/channels.js')),
  forwards: entry('List the forwards', () => import('../commands/forwards.js')),
  services: entry('List the services that are offered here and by the peers', () => import('../commands/services.js')),
  streams: entry('List the streams', () => import('../commands/streams.js')),
  events: entry('Show what happens', () => import('../commands/events.js')),
  top: entry('Show streams and channels, live', () => import('../commands/top.js')),
  'forward add': entry('Add a forward', () => import('../commands/forward-add.js')),
  'forward remove': entry('Remove a forward', () => import('../commands/forward-remove.js')),
  'channel add': entry('Add a channel', () => import('../commands/channel-add.js')),
  'channel remove': entry('Remove a channel with its forwards', () => import('../commands/channel-remove.js')),
  'stream close': entry('Reset a stream', () => import('../commands/stream-close.js')),
  connect: entry('Join standard input and output to a service', () => import('../commands/connect.js')),
  exec: entry('Run a command at the peer', () => import('../commands/exec.js')),
  shell: entry('Run the login shell at the peer', () => import('../commands/shell.js')),
  copy: entry('Copy files and folders to the other side, or from it', () => import('../commands/copy.js')),
  ping: entry('Measure the round trip through a peer', () => import('../commands/ping.js')),
  wait: entry('Wait for a session, or a service', () => import('../commands/wait.js')),
  'log-level': entry('Set what the process logs', () => import('../commands/log-level.js')),
  reload: entry('Read the configuration file again', () => import('../commands/reload.js')),
  drain: entry('Let the process end when its streams have', () => import('../commands/drain.js')),
  stop: entry('Let the process end', () => import('../commands/stop.js')),
};

/** Those that need no vproxy that runs. */
export const LOCAL_COMMANDS: Readonly<Record<string, CommandEntry>> = {
  check: entry(
    'Check a configuration file, and print everything that is wrong with it',
    () => import('../commands/check.js'),
  ),
  genkey: entry('Make a key for --key of both sides', () => import('../commands/genkey.js')),
  doctor: entry('Look for what usually goes wrong', () => import('../commands/doctor.js')),
  'libvirt-xml': entry("Print a port's XML for libvirt", () => import('../commands/libvirt-xml.js')),
  'qemu-args': entry("Print a port's arguments for QEMU", () => import('../commands/qemu-args.js')),
  'storage-emulator': entry(
    'Answer storage calls from a file of recorded replies',
    () => import('../commands/storage-emulator.js'),
  ),
  'storage link': entry('Put vproxy-storage in the place of a utility', () => import('../commands/storage-link.js')),
  'storage unlink': entry('Take such a link away', () => import('../commands/storage-unlink.js')),
  'pipe-create': entry("Make the FIFOs of QEMU's pipe chardev", () => import('../commands/pipe-create.js')),
  completion: entry('Print the completion of a shell: bash, zsh or fish', () => import('../commands/completion.js')),
};

function entry(summary: string, load: () => Promise<{ readonly command: Command }>): CommandEntry {
  return { summary, load: async () => (await load()).command };
}

/** What a command line names. */
export interface FoundCommand {
  readonly name: string;
  /** Null where `name` is the first word of several commands, and no second word says which. */
  readonly entry: CommandEntry | null;
  /** The words behind the name. */
  readonly words: readonly string[];
}

/** The command that `args` begin with; null where they begin with none of these. */
export function findCommand(args: readonly string[]): FoundCommand | null {
  const [first = '', second = ''] = args;
  for (const [name, count] of [
    [`${first} ${second}`, 2],
    [first, 1],
  ] as const) {
    const table = [CONTROL_COMMANDS, LOCAL_COMMANDS].find((commands) => Object.hasOwn(commands, name));
    const found = table?.[name];
    if (found !== undefined) return { name, entry: found, words: args.slice(count) };
  }
  return secondWords(first).length > 0 ? { name: first, entry: null, words: args.slice(1) } : null;
}

/** What may stand behind the first word of commands of two words. */
export function secondWords(first: string): string[] {
  return Object.keys({ ...CONTROL_COMMANDS, ...LOCAL_COMMANDS }).flatMap((name) =>
    name.startsWith(`${first} `) ? [name.slice(first.length + 1)] : [],
  );
}
