/** The settings of a channel. */
import { type ChannelAddress, parseChannel } from '../channel/address/address.js';
import { badArgument } from '../errors.js';
import { DEFAULT_WAIT_MS } from '../forward/session-source.js';
import type { StorageOptions } from '../proxy/channel/channel-options.js';
import { BUFFER_RANGE, DEFAULT_BUFFER_BYTES } from '../system/sockets/socket-buffer.js';
import { mergeNamedTables } from './named-tables.js';
import { clockPermission, copyPermission, execPermission, portAnnouncement, portForwarding } from './permissions.js';
import { egressRules, parseEgressOptions, parseRules, serviceRules } from './service-rules.js';
import {
  type ChannelSetting,
  type GivenOptions,
  notAllowedWith,
  onlyValue,
  parseValues,
  readTable,
  type SettingsOf,
  type SettingWithin,
  tableSchema,
  writeTable,
} from './setting.js';
import {
  amount,
  type Form,
  isTable,
  list,
  parsed,
  path,
  seconds,
  secondsOrNever,
  text,
  type ValueType,
  yesOrNo,
} from './value-type.js';

const MAX_SECONDS = 86_400;
const MAX_PARALLEL = 1024;
const MAX_NAME_LENGTH = 256;

const MAX_KEYS = 32;

const keyFile = path('the path of a file', (file) => {
  // Not shown: a key given in place of its file would end up in a log.
  if (!/^[0-9a-fA-F]{32,}$/.test(file)) return file;
  throw badArgument('expected the path of a key file, not the key itself');
});

// ---- for all channels, and for one ----------------------------------------------------------------------------------

/** Settings for all channels at once, and for each. */
export const SHARED = [
  {
    key: 'wait',
    field: 'waitMs',
    type: seconds(0, MAX_SECONDS),
    fallback: DEFAULT_WAIT_MS,
    options: {
      value: 'SECONDS',
      group: 'Forwards:',
      help: 'SECONDS that a local connection waits for a session',
      byDefault: String(DEFAULT_WAIT_MS / 1000),
      ofAddition: { help: 'How long a local connection waits for a session' },
    },
    about: 'How long a local connection waits for a session',
    reload: 'channel',
  },
  {
    key: 'dead-after',
    field: 'deadAfterMs',
    type: secondsOrNever(MAX_SECONDS),
    fallbackOf: ({ deadAfterMs }) => deadAfterMs,
    options: {
      value: 'SECONDS',
      group: 'Channel:',
      help: 'SECONDS of silence after which a session ends; 0: never',
      byDefault: '30 on tcp, else never',
      ofAddition: { help: 'Silence after which a session ends; 0: never' },
    },
    about: 'Silence after which the session ends; 0: never. Default: depends on the kind of channel',
    reload: 'channel',
  },
  {
    key: 'buffer',
    field: 'bufferBytes',
    type: amount('bytes', ...BUFFER_RANGE),
    fallback: DEFAULT_BUFFER_BYTES,
    options: {
      value: 'BYTES',
      group: 'Channel:',
      help: 'BYTES that the system buffers for the peer on a channel over a unix socket',
      byDefault: String(DEFAULT_BUFFER_BYTES),
      ofAddition: { help: 'Bytes that the system buffers for its peer, on a unix socket' },
    },
    about: 'How many bytes the system buffers for its peer, on a unix socket; limited by net.core.wmem_max',
    reload: 'channel',
  },
  {
    key: 'insecure',
    field: 'insecure',
    type: yesOrNo,
    fallback: false,
    options: { group: 'Channel:', help: 'Let tcp-listen use addresses that other machines can reach' },
    about: 'Lets it listen on addresses that other machines can reach',
    reload: 'channel',
  },
  {
    key: 'keys',
    field: 'keyFiles',
    type: list(keyFile, 'a list of paths, such as ["/etc/vproxy/vm1.key"]', MAX_KEYS),
    fallback: [],
    options: {
      name: 'key',
      value: 'FILE',
      isRepeatable: true,
      group: 'Channel:',
      help: 'FILE with a key that the peer must have too; vproxy genkey makes one',
      ofAddition: { help: 'A file with a key that its peer must have too' },
    },
    about: 'Files with keys that its peer must have too, as for --key; in a request absolute paths, on this machine',
    variable: 'VPROXY_KEY',
    reload: 'now',
  },
  {
    key: 'peer-address',
    field: 'peerAddress',
    type: yesOrNo,
    fallback: false,
    options: {
      group: 'Forwards:',
      help: 'Tell targets of -i which channel and stream they serve, with a PROXY protocol header',
    },
    about: 'Tells targets that are sockets which channel and stream they serve, with a PROXY protocol header',
    reload: 'channel',
  },
  {
    key: 'allow-exec',
    field: 'exec',
    type: execPermission,
    fallback: null,
    options: {
      value: '[=/PATH,…]',
      group: 'Services:',
      help: 'Let the peer run commands here: any, or with =/PATH[,/PATH…] only these programs',
    },
    about: 'Whether its peer may run commands here: any, none, or the programs at these absolute paths',
    reload: 'now',
  },
  {
    key: 'allow-copy',
    field: 'copy',
    type: copyPermission,
    fallback: null,
    options: {
      value: '[=/DIR]',
      group: 'Services:',
      help: 'Let the peer read and write files here: all, or with =/DIR only those in a folder',
    },
    about: 'Whether its peer may read and write files here: all, none, or those below this absolute path',
    reload: 'now',
  },
  {
    key: 'allow-freeze',
    field: 'freeze',
    type: yesOrNo,
    fallback: false,
    options: { group: 'Services:', help: 'Let the peer freeze file systems of this machine, for a snapshot' },
    about: 'Whether its peer may freeze file systems here',
    reload: 'now',
  },
  {
    key: 'info',
    field: 'info',
    type: yesOrNo,
    options: [
      { name: 'info', group: 'Services:', help: 'Let the peer ask about this machine, even if the peer is not a host' },
      {
        name: 'no-info',
        group: 'Services:',
        help: 'Never let the peer ask about this machine',
        byDefault: 'a host may',
      },
    ],
    fromOptions(given) {
      const [isAllowed, isForbidden] = [given('info').length > 0, given('no-info').length > 0];
      if (isAllowed && isForbidden) throw notAllowedWith('--no-info', '--info');
      return isAllowed || isForbidden ? isAllowed : undefined;
    },
    about: 'Whether its peer may ask about this machine: names, memory, disks, addresses; default: if it is a host',
    reload: 'now',
  },
  {
    key: 'follow-clock',
    field: 'followClock',
    type: clockPermission,
    fallback: null,
    options: {
      value: '[=THRESHOLD][,back=TIME]',
      group: 'Services:',
      help: "Set this machine's clock to the peer's if it is off by more than THRESHOLD, and do as --reseed",
      byDefault: '1s,back=24h',
    },
    about:
      "Whether this machine's clock follows its peer's: true, or the difference that is left alone, such as 500ms,back=1h",
    reload: 'now',
  },
  {
    key: 'reseed',
    field: 'reseed',
    type: yesOrNo,
    fallback: false,
    options: { group: 'Services:', help: 'Take random numbers from the peer after a restore of this machine' },
    about: 'Whether to take random numbers from its peer after a restore of this machine',
    reload: 'now',
  },
  {
    key: 'announce-ports',
    field: 'announcePorts',
    type: portAnnouncement,
    fallback: null,
    options: {
      value: 'RANGE[,RANGE…]',
      group: 'Services:',
      help: 'RANGE of ports, such as 3000-9999: announce those with a listener here to the peer, which may connect to them',
    },
    about: 'Ports, such as 3000-9999,18080: those with a listener here are announced to its peer, which may connect',
    reload: 'now',
  },
  {
    key: 'forward-ports',
    field: 'forwardPorts',
    type: portForwarding,
    fallback: null,
    options: {
      value: 'RANGE[,RANGE…][,key=value]',
      group: 'Forwards:',
      help: 'RANGE of ports: listen here for those that the peer announces, on 127.0.0.1, address=IP, or a unix socket in dir=/DIR',
    },
    about: 'Ports, such as 3000-9999: listens here for those that its peer announces; address= or dir= sets where',
    reload: 'now',
  },
  {
    key: 'services',
    field: 'policies',
    type: serviceRules,
    fallback: {},
    isNested: true,
    options: {
      name: 'rule',
      value: 'SERVICE:KEY=VALUE[,KEY=VALUE…]',
      isRepeatable: true,
      group: 'Services:',
      help: 'What the peer may do with SERVICE, as [services.SERVICE] in a file, such as ssh:streams=10',
      isOfAdditionOnly: true,
    },
    fromOptions: parseRules,
    about: 'What its peer may do with services of this side, by service name',
    merge: mergeNamedTables,
    reload: 'now',
  },
  {
    key: 'egress',
    field: 'egress',
    type: egressRules,
    fallback: {},
    isNested: true,
    options: {
      value: 'NAME:KEY=VALUE[,KEY=VALUE…]',
      isRepeatable: true,
      group: 'Services:',
      help: 'NAME and rules of what -i SERVICE:egress:NAME lets the peer reach, as [egress.NAME] in a file, such as internet:allow=deb.debian.org:80,443',
    },
    fromOptions: parseEgressOptions,
    about: 'What the targets of egresses let its peer reach, by egress name',
    merge: mergeNamedTables,
    reload: 'now',
  },
] as const satisfies readonly ChannelSetting[];

export const NAME = {
  key: 'name',
  field: 'name',
  type: text(`a string of 1 to ${MAX_NAME_LENGTH} characters`, MAX_NAME_LENGTH),
  options: {
    value: 'TEXT',
    group: 'Channel:',
    help: 'Name of this side, shown to the peer, and of the control socket',
    ofAddition: { name: 'own-name', help: 'Name of this side, shown to its peer' },
  },
  about: 'The name of this side, shown to its peer',
  variable: 'VPROXY_NAME',
  reload: 'channel',
} as const satisfies ChannelSetting<'name'>;

/** How the storage broker of a channel runs. */
export const STORAGE_SETTINGS = [
  {
    key: 'socket',
    field: 'socketPath',
    type: path('the path of a socket'),
    about: 'The absolute path of the socket for wrappers; runs the broker on any kind of channel',
    reload: 'channel',
  },
  {
    key: 'parallel',
    field: 'parallel',
    type: amount('calls', 1, MAX_PARALLEL),
    about: 'Concurrent calls to an emulator that listens at the peer; default: 1',
    reload: 'channel',
  },
] as const satisfies readonly SettingWithin<'storage', unknown>[];

const STORAGE_EXPECTED = 'true, false, or a table with socket and parallel';

const storageBroker: ValueType<StorageOptions> = {
  expected: STORAGE_EXPECTED,
  read(value, place) {
    if (typeof value === 'boolean') return { value: { isAllowed: value } };
    if (!isTable(value)) return place.fail(`expected ${STORAGE_EXPECTED}`);
    return { value: { isAllowed: true, ...readTable(STORAGE_SETTINGS, value, place) } };
  },
  write({ isAllowed = true, socketPath, parallel }, form) {
    const said = {
      ...((socketPath ?? null) === null ? {} : { socketPath }),
      ...(parallel === undefined ? {} : { parallel }),
    };
    return isAllowed && writeTable(STORAGE_SETTINGS, said, form);
  },
  schema: (z, form) => {
    const description = 'How the storage broker of a channel runs';
    const id = form === 'request' ? { id: 'BrokerRequest' } : {};
    return z.union([z.boolean(), tableSchema(z, STORAGE_SETTINGS, form).meta({ ...id, description })]);
  },
};

export const STORAGE = {
  key: 'storage',
  field: 'storage',
  type: storageBroker,
  isNested: true,
  options: [
    {
      name: 'storage-socket',
      value: 'PATH',
      group: 'Storage:',
      help: "PATH of the storage broker's unix socket; runs the broker on any kind of channel",
    },
    { name: 'no-storage', group: 'Storage:', help: 'Never run the storage broker' },
    {
      name: 'storage-parallel',
      value: 'CALLS',
      group: 'Storage:',
      help: 'CALLS at once to an emulator that listens at the peer',
      byDefault: '1',
    },
  ],
  fromOptions(given, form) {
    const isForbidden = given('no-storage').length > 0;
    const { socketPath, parallel } = readStorageOptions(given, form);
    if (isForbidden && socketPath !== undefined) throw notAllowedWith('--no-storage', '--storage-socket');
    if (!isForbidden && socketPath === undefined && parallel === undefined) return undefined;
    return {
      ...(isForbidden ? { isAllowed: false } : {}),
      ...(socketPath === undefined ? {} : { isAllowed: true, socketPath }),
      ...(parallel === undefined ? {} : { parallel }),
    };
  },
  about: 'Whether the storage broker runs if the channel leads to a host, or how it runs',
  merge: (all, own) => ({ ...all, ...own }),
  reload: 'channel',
} as const satisfies ChannelSetting<'storage'>;

function readStorageOptions(given: GivenOptions, form: Form): SettingsOf<typeof STORAGE_SETTINGS> {
  const entries = STORAGE_SETTINGS.flatMap(({ key, field, type }) => {
    const value = onlyValue(`storage-${key}`, given);
    return value === undefined ? [] : [[field, parseValues(type, [value], `--storage-${key}`, form)]];
  });
  return Object.fromEntries(entries) as SettingsOf<typeof STORAGE_SETTINGS>;
}

// ---- for one channel only --------------------------------------------------------------------------------------------

export const ADDRESS = {
  key: 'address',
  field: 'address',
  type: parsed(
    'KIND:ADDRESS or a URI, such as "unix-connect:/run/vm1.sock"',
    (value) => parseChannel(value),
    ({ text }) => text,
  ),
  isRequired: true,
  options: {
    name: 'channel',
    short: 'c',
    value: '[LABEL=]KIND:ADDRESS[,key=value…]',
    isRepeatable: true,
    group: 'Channel:',
    help: '[LABEL=]KIND:ADDRESS[,key=value…], qemu:CHARDEV or URI of a channel, such as unix-connect:/run/vm1.sock or libvirt:vm1',
  },
  about: 'KIND:ADDRESS[,key=value…], as -c takes it, or a URI',
  variable: 'VPROXY_CHANNEL',
  reload: 'channel',
} as const satisfies SettingWithin<'address', ChannelAddress>;
