/** The options of the command that runs a proxy. docs/cli.md is compared with them. */
import type { Options } from 'yargs';

/** One of them: what yargs reads, and for manual and completion what `CommandOption` says of the options of other commands. */
export interface RunOption extends Options {
  /** What its value is called; without one it is a flag. One in brackets may be left out, and stands behind `=` only. */
  readonly value?: string;
  /** Whether it may be given more than once. Default false. */
  readonly isRepeatable?: boolean;
}

/** Every option, by its long name, as yargs wants it. What a value must be is checked by `parseRunFlags`. */
export const RUN_OPTIONS = {
  channel: {
    alias: 'c',
    type: 'string',
    value: '[LABEL=]KIND:ADDRESS[,key=value…]',
    isRepeatable: true,
    requiresArg: true,
    group: 'Channel:',
    describe:
      '[LABEL=]KIND:ADDRESS[,key=value…], qemu:CHARDEV or URI of a channel (required), such as unix-connect:/run/vm1.sock or libvirt:vm1; repeatable',
  },
  name: {
    type: 'string',
    value: 'TEXT',
    requiresArg: true,
    group: 'Channel:',
    describe: 'Name of this side, told to the peer, and of the control socket',
  },
  'dead-after': {
    type: 'string',
    value: 'SECONDS',
    requiresArg: true,
    group: 'Channel:',
    describe: 'SECONDS of silence that end a session; 0: never [default: 30 on tcp, else never]',
  },
  insecure: {
    type: 'boolean',
    group: 'Channel:',
    describe: 'Let tcp-listen listen on addresses that other machines reach',
  },
  key: {
    type: 'string',
    value: 'FILE',
    isRepeatable: true,
    requiresArg: true,
    group: 'Channel:',
    describe: 'FILE with a key that the peer must have as well; vproxy genkey makes one; repeatable',
  },
  once: {
    type: 'boolean',
    group: 'Channel:',
    describe: 'End with the first session, or when the two sides do not let each other in',
  },
  outgoing: {
    alias: 'o',
    type: 'string',
    value: 'FORWARD',
    isRepeatable: true,
    requiresArg: true,
    group: 'Forwards:',
    describe:
      "[LABEL/]SERVICE:ADDR:PORT, SERVICE:PORT, SERVICE:/path or *:vsock-mux:/path: listen here for the peer's SERVICE; repeatable",
  },
  incoming: {
    alias: 'i',
    type: 'string',
    value: 'FORWARD',
    isRepeatable: true,
    requiresArg: true,
    group: 'Forwards:',
    describe:
      '[LABEL/]SERVICE:ADDR:PORT, SERVICE:PORT, SERVICE:/path, SERVICE:vsock-mux:/path:PORT, SERVICE:file:/path or SERVICE:exec:COMMAND: offer SERVICE to the peer; repeatable',
  },
  'vsock-port': {
    type: 'string',
    value: 'PORT=SERVICE',
    isRepeatable: true,
    requiresArg: true,
    group: 'Forwards:',
    describe: 'PORT=SERVICE: what CONNECT PORT means on each -o *:vsock-mux:/path; repeatable',
  },
  'peer-address': {
    type: 'boolean',
    group: 'Forwards:',
    describe: 'Tell targets of -i which channel and stream they serve, by the PROXY protocol',
  },
  'allow-exec': {
    type: 'string',
    value: '[=/PATH,…]',
    group: 'Services:',
    describe: 'Let the peer run commands here: any, or with =/PATH[,/PATH…] exactly these programs',
  },
  'allow-copy': {
    type: 'string',
    value: '[=/DIR]',
    group: 'Services:',
    describe: 'Let the peer read and write files here: all, or with =/DIR those in a folder',
  },
  wait: {
    type: 'string',
    value: 'SECONDS',
    requiresArg: true,
    group: 'Forwards:',
    describe: 'SECONDS for which a local connection waits for a session [default: 10]',
  },
  'storage-socket': {
    type: 'string',
    value: 'PATH',
    requiresArg: true,
    group: 'Storage:',
    describe: 'Run the storage broker on any kind of channel, with its unix socket at PATH',
  },
  'no-storage': { type: 'boolean', group: 'Storage:', describe: 'Never run the storage broker' },
  'storage-parallel': {
    type: 'string',
    value: 'CALLS',
    requiresArg: true,
    group: 'Storage:',
    describe: 'Calls at once to an emulator that listens at the peer [default: 1]',
  },
  config: {
    type: 'string',
    value: 'FILE',
    requiresArg: true,
    group: 'Configuration:',
    describe: 'FILE with all of this, TOML or JSON; what the command line says wins',
  },
  'print-config': {
    type: 'boolean',
    group: 'Configuration:',
    describe: 'Print what would be in force, as TOML, and end',
  },
  json: { type: 'boolean', group: 'Configuration:', describe: 'Print it as JSON' },
  control: {
    type: 'string',
    value: 'PATH',
    requiresArg: true,
    group: 'Control:',
    describe: 'PATH of the control socket [default: /run/vproxy/NAME.sock, or in $XDG_RUNTIME_DIR/vproxy]',
  },
  'no-control': { type: 'boolean', group: 'Control:', describe: 'No control socket' },
  metrics: {
    type: 'string',
    value: 'ADDR:PORT',
    requiresArg: true,
    group: 'Control:',
    describe: 'ADDR:PORT to serve metrics on as well',
  },
  audit: {
    type: 'string',
    value: 'FILE[,rotate=10M][,keep=5]',
    requiresArg: true,
    group: 'Log:',
    describe: '/path[,rotate=10M][,keep=5] of a log of who opened what, as lines of JSON',
  },
  verbose: {
    alias: 'v',
    type: 'count',
    group: 'Log:',
    describe: 'Log more: -v every stream and call, -vv also the facts of every line',
  },
  quiet: { alias: 'q', type: 'boolean', group: 'Log:', describe: 'Log warnings and errors only' },
  'log-format': {
    type: 'string',
    value: 'text|json',
    requiresArg: true,
    group: 'Log:',
    describe: 'text, or json: one object a line [default: text]',
  },
} as const satisfies Record<string, RunOption>;
