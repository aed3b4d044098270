/** The options of a channel, and what follows from them. */

import { randomBytes } from 'node:crypto';
import { type ChannelAddress, parseChannel } from '../../channel/address/address.js';
import type { ChannelTraits } from '../../channel/kind.js';
import { DEFAULT_LIMITS } from '../../codec/limits.js';
import { badArgument, toVproxyError, VproxyError } from '../../errors.js';
import type { EgressTexts } from '../../forward/egress/rules.js';
import type { Direction } from '../../forward/forms/endpoint-form.js';
import type { ServicePolicy } from '../../forward/service-registry.js';
import type { ForwardSpec } from '../../forward/spec.js';
import { readCertificates, tlsWithCertificates, tlsWithKeys } from '../../link/tls-layer.js';
import { PERMISSION_CHECKS, type Permissions, permittedNames } from '../../services/permitted.js';
import { SecretKey, type SecureLayerFactory } from '../../session/opening/auth.js';
import { KeptSessions } from '../../session/resume/kept-sessions.js';
import { CHANNEL_BUDGET_BYTES, type SessionSettings, sessionSettings } from '../../session/settings.js';
import { readSecretFile } from '../../system/files/guarded-files.js';
import type { PortRange } from '../../util/addresses/host-port.js';
import { Budget, type FairBudget } from '../../util/bounds.js';
import {
  AMOUNT,
  type ChecksOf,
  FLAG,
  isObject,
  listOf,
  must,
  OBJECT,
  orNull,
  record,
  TEXT,
  tableOf,
} from '../../util/checks.js';
import type { Clock } from '../../util/clock.js';
import { haveEqualValues } from '../../util/equality.js';
import { escapeText } from '../../util/escape.js';
import { isLabel, LABEL_RULE } from '../../util/labels.js';
import type { ChannelEgress } from '../egress/definitions.js';
import type { PortForwarding } from '../ports/port-rules.js';

/** The label of a channel without one. */
export const DEFAULT_LABEL = 'default';

/** A forward for each channel of a group, as text, because it may contain the channel's label. */
export interface ForwardTemplate {
  /** `outgoing` (`-o`) listens here; `incoming` (`-i`) serves here. */
  readonly direction: Direction;
  /** As `-o` and `-i` take it, with `{channel}` for the label: `ssh:/run/vproxy/{channel}/ssh.sock`. */
  readonly text: string;
}

/** Whether and where the storage broker runs. */
export interface StorageOptions {
  /** False to never run it (`--no-storage`). Default true. */
  readonly isAllowed?: boolean;
  /** The broker's socket: runs the broker on any kind of channel; failure to listen on it is then an error. */
  readonly socketPath?: string | null;
  /** Parallel calls to an emulator that listens at the peer. Default 1. */
  readonly parallel?: number;
  /** `$XDG_RUNTIME_DIR`, for the default path. */
  readonly runtimeDirectory?: string | null;
}

/** The rule of one service, for several channels. */
export interface ChannelPolicy extends ServicePolicy {
  /** The labels of channels and groups whose peers may open it. Default: all. */
  readonly channels?: readonly string[];
  /** For `exec` only: the absolute path of the folder for terminal recordings. Default: no recording. */
  readonly recordFolder?: string;
  /** For `exec` only: whether to record typed input, too. Default false. */
  readonly recordsInput?: boolean;
}

/** Rules by the names of their services. */
export type ChannelPolicies = Readonly<Record<string, ChannelPolicy>>;

/** One channel with its forwards; or a group of channels, where the address has a `*` (see `isGroup`). */
export interface ChannelOptions extends Permissions {
  /** Its name in this process: 1 to 64 of `a-z`, `0-9`, dot, underscore and hyphen. Default `default`. */
  readonly label?: string;
  /** The label of the group that it is made for, or null. Default null. */
  readonly group?: string | null;
  /** The text of the channel, `KIND:ADDRESS[,key=value…]`, or a URI; or the result of `parseChannel`. */
  readonly address: string | ChannelAddress;
  /** The forwards of a channel. Default: none. */
  readonly forwards?: readonly ForwardSpec[];
  /** The forwards of a group, in place of `forwards`. Default: none. */
  readonly template?: readonly ForwardTemplate[];
  /** The operator's name for this side, sent to the peer. Default null. */
  readonly name?: string | null;
  /** How long a local connection waits for a session, in milliseconds. Default 10,000. */
  readonly waitMs?: number;
  /** Silence that ends the session, in milliseconds; null for never. Default: depends on the kind of channel. */
  readonly deadAfterMs?: number | null;
  /** The socket buffer to request for a link over a unix socket, in bytes. Default 1,048,576. */
  readonly bufferBytes?: number;
  /** Lets the channel listen on addresses that other machines can reach. Default false. */
  readonly insecure?: boolean;
  /** Key files of this side, preferred first. With any, peers without a common key are rejected. Default: none. */
  readonly keyFiles?: readonly string[];
  /** Sends the PROXY protocol header to TCP and unix targets, to identify the client. Default false. */
  readonly peerAddress?: boolean;
  /** Restrictions on services of this side, by name. Default: the peer may use everything that is offered. */
  readonly policies?: ChannelPolicies;
  /** The destinations that the peer may reach through egresses, by egress name. Default: none. */
  readonly egress?: ChannelEgress;
  /** The broker of storage calls on this channel. Default: runs if the channel leads to a host. */
  readonly storage?: StorageOptions;
  /** Ports to announce to the peer, and let it connect to, while a program listens on them here; null for none. Default null. */
  readonly announcePorts?: readonly PortRange[] | null;
  /** Ports to listen for here while the peer announces them; null for none. Default null. */
  readonly forwardPorts?: PortForwarding | null;
}

const TEXTS = listOf(TEXT);

const isAddress = (value: unknown): boolean =>
  typeof value === 'string' || (isObject(value) && isObject(value['kind']) && isObject(value['traits']));
const RANGES = listOf(listOf(AMOUNT));

const checkTypes = record(
  {
    label: TEXT,
    group: orNull(TEXT),
    forwards: listOf(OBJECT),
    template: listOf(record({}, { direction: TEXT, text: TEXT } satisfies ChecksOf<ForwardTemplate>)),
    name: orNull(TEXT),
    waitMs: AMOUNT,
    deadAfterMs: orNull(AMOUNT),
    bufferBytes: AMOUNT,
    insecure: FLAG,
    keyFiles: TEXTS,
    peerAddress: FLAG,
    policies: tableOf(
      record({
        isAllowed: FLAG,
        streams: AMOUNT,
        opensPerSecond: AMOUNT,
        bytesPerSecond: AMOUNT,
        idleTimeoutMs: AMOUNT,
        channels: TEXTS,
        recordFolder: TEXT,
        recordsInput: FLAG,
      } satisfies ChecksOf<ChannelPolicy>),
    ),
    egress: tableOf(
      record({ allow: TEXTS, deny: TEXTS, upstream: TEXT, askMs: AMOUNT } satisfies ChecksOf<EgressTexts>),
    ),
    ...PERMISSION_CHECKS,
    storage: record({
      isAllowed: FLAG,
      socketPath: orNull(TEXT),
      parallel: AMOUNT,
      runtimeDirectory: orNull(TEXT),
    } satisfies ChecksOf<StorageOptions>),
    announcePorts: orNull(RANGES),
    forwardPorts: orNull(record({ host: TEXT, folder: orNull(TEXT) }, { ranges: RANGES })),
  } satisfies ChecksOf<Omit<ChannelOptions, 'address'>>,
  { address: must('a string, or the result of parseChannel', isAddress) },
);

/** Options whose address and label were parsed. */
export interface ParsedOptions extends ChannelOptions {
  readonly label: string;
  readonly address: ChannelAddress;
}

/** Options for others than this process: with the text of the address. */
export interface WrittenOptions extends ChannelOptions {
  readonly address: string;
}

/** Parses the label and the address. Throws `bad-argument`, also for an unknown option, or a value of a wrong type. */
export function parseOptions(options: ChannelOptions): ParsedOptions {
  checkTypes(options, '');
  const { label = DEFAULT_LABEL, address } = options;
  return {
    ...options,
    label: parseLabel(label),
    address: typeof address === 'string' ? parseChannel(address) : address,
  };
}

/** The same for all channels and groups of a proxy. */
export function parseAll(channels: readonly ChannelOptions[]): ParsedOptions[] {
  listOf(OBJECT)(channels, 'channels');
  return channels.map(parseOptions);
}

/** The inverse of {@link parseOptions}. */
export const writeOptions = (options: ParsedOptions): WrittenOptions => ({ ...options, address: options.address.text });

/**
 * The options that a running channel adopts when they change. A change of any other option replaces the channel, as does
 * adding the first key or removing the last. Must match the table of settings: see `ChannelSetting`.
 */
export const ADOPTED_OPTIONS = [
  'forwards',
  'keyFiles',
  'policies',
  'egress',
  'exec',
  'copy',
  'info',
  'followClock',
  'freeze',
  'reseed',
  'announcePorts',
  'forwardPorts',
] as const satisfies readonly (keyof ChannelOptions)[];

/** Returns the label. Throws `bad-argument` for a text that is not a label. */
export function parseLabel(text: string): string {
  // Folders may be named after it.
  if (isLabel(text) && text !== '.' && text !== '..') return text;
  throw badArgument(`channel label "${escapeText(text, 80)}": must be ${LABEL_RULE}, and not "." or ".."`);
}

export const labelTaken = (label: string): VproxyError =>
  badArgument(`channel ${label} already exists; give each channel its own label`);

/** The error for a channel that is the same as another one of the process. */
export const placeTaken = (label: string, address: string, other: string): VproxyError =>
  badArgument(
    `channel ${label}: ${escapeText(address)} is already in use by channel ${other}; a process can open it only once`,
  );

/** Throws `bad-argument` if other machines could connect to the channel and nothing would protect it. */
export function requirePrivacy({ address: channel, insecure = false }: ParsedOptions): void {
  const { kind, address, text, traits } = channel;
  if (kind.mode === 'dial' || insecure || traits.tls !== null || kind.isPrivate(address)) return;
  throw badArgument(
    `channel "${text}": listening where other machines can connect needs TLS (tls=psk or tls=cert) or --insecure; 127.0.0.1 or [::1] does not`,
  );
}

/** The identity of the process on all its channels, and the budgets that they share. */
export interface ProcessIdentity {
  readonly instance: string;
  readonly agent: string;
  /** Shared budget by which the windows of all channels may grow. */
  readonly budget: Budget;
  /** Shared budget for what sessions keep to resume on another link. */
  readonly keptBudget: FairBudget;
}

export function settingsFor(
  { address: { traits }, name = null, deadAfterMs = traits.deadAfterMs }: ParsedOptions,
  keys: () => readonly SecretKey[],
  { instance, agent, budget, keptBudget }: ProcessIdentity,
  clock: Clock,
): SessionSettings {
  const { resumeMs, resumeMemoryBytes } = traits;
  const resume = { kept: new KeptSessions(clock, resumeMs), memoryBytes: resumeMemoryBytes, budget: keptBudget };
  if (resumeMs > 0) keptBudget.widen(2 * resumeMemoryBytes);
  return sessionSettings({
    instance,
    randomBytes,
    agent,
    name,
    limits: {
      ...DEFAULT_LIMITS,
      frame: traits.frameBytes,
      inFlight: traits.inFlightBytes,
      streams: traits.streams,
    },
    integrity: traits.integrity,
    keys,
    secure: secureLayer(traits, keys),
    resume: resumeMs === 0 ? null : resume,
    deadAfterMs,
    timeOfDay: Date.now,
    receiveBudget: new Budget(CHANNEL_BUDGET_BYTES, budget),
  });
}

function secureLayer(traits: ChannelTraits, keys: () => readonly SecretKey[]): SecureLayerFactory | null {
  if (traits.tls === null) return null;
  return traits.tls === 'psk' ? tlsWithKeys(keys) : tlsWithCertificates(() => readCertificates(traits));
}

// Reading the keys of a channel.

/** More would not fit in HELLO, which names them all. */
const MAX_KEYS = 32;

/**
 * Reads the keys in `keyFiles`, in order. Throws `bad-file`, which names the file but shows nothing of its content, and
 * `bad-argument` for too many keys, or for none where the channel needs one.
 */
export function readKeys({ keyFiles = [], address: { text, traits } }: ParsedOptions): SecretKey[] {
  if (keyFiles.length > MAX_KEYS) throw bad(text, `too many keys: ${keyFiles.length} (max ${MAX_KEYS})`);
  if (traits.tls === 'psk' && keyFiles.length === 0) throw bad(text, 'tls=psk needs a key (--key FILE)');
  return keyFiles.map(readKey);
}

function readKey(path: string): SecretKey {
  const text = readSecretFile(path);
  try {
    return SecretKey.parse(text);
  } catch (error) {
    throw new VproxyError('bad-file', `${escapeText(path)}: ${toVproxyError(error).message}`);
  }
}

const bad = (channel: string, what: string): VproxyError => badArgument(`channel "${escapeText(channel)}": ${what}`);

// The service rules of a channel.

/** Resolves the rule for the channel `label` of the group `group`; null for none. */
export function resolvePolicy(
  rule: ChannelPolicy | undefined,
  label: string,
  group: string | null,
): ServicePolicy | null {
  if (rule === undefined) return null;
  const { channels, ...policy } = rule;
  if (channels === undefined || channels.some((name) => name === label || name === group)) return policy;
  return { ...policy, isAllowed: false };
}

/** The rules of all services. `sftp` has that of `copy` unless it has its own: neither may do what the other must not. */
export function policiesOf(options: ParsedOptions): ChannelPolicies {
  const { policies = {} } = options;
  const { copy, sftp = copy } = policies;
  return sftp === undefined || !permittedNames(options).includes('sftp') ? policies : { ...policies, sftp };
}

/** The names of the services whose rules differ. */
export function changedPolicies(one: ChannelPolicies = {}, other: ChannelPolicies = {}): string[] {
  const names = new Set([...Object.keys(one), ...Object.keys(other)]);
  return [...names].filter((name) => !haveEqualValues(one[name] ?? {}, other[name] ?? {}));
}
