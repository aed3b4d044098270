/** What a channel of a proxy is made of, and what follows from it. */

import { randomBytes } from 'node:crypto';
import type { ChannelAddress } from '../channel/address/address.js';
import type { ChannelTraits } from '../channel/kind.js';
import { DEFAULT_LIMITS } from '../codec/limits.js';
import { toVproxyError, VproxyError } from '../errors.js';
import type { Direction } from '../forward/endpoint-kind.js';
import type { ServicePolicy } from '../forward/service-registry.js';
import type { ForwardSpec } from '../forward/spec.js';
import { readCertificates, tlsWithCertificates, tlsWithKeys } from '../link/tls-layer.js';
import { SecretKey, type SecureLayerFactory } from '../session/opening/auth.js';
import { KeptSessions } from '../session/resume/kept-sessions.js';
import { CHANNEL_BUDGET_BYTES, type SessionSettings, sessionSettings } from '../session/settings.js';
import { readSecretFile } from '../system/files/guarded-files.js';
import type { PortRange } from '../util/addresses.js';
import { Budget, type FairBudget } from '../util/bounds.js';
import type { Clock } from '../util/clock.js';
import { haveEqualValues } from '../util/equality.js';
import { escapeText } from '../util/escape.js';
import { isLabel, LABEL_RULE } from '../util/labels.js';
import type { ChannelEgress } from './channel-egress.js';
import type { PortForwarding } from './ports/port-rules.js';
import type { CopyPermission, ExecPermission } from './services/built-in.js';

/** The label of a channel that was given none. */
export const DEFAULT_LABEL = 'default';

/** How long a local connection waits for a session where nothing is said, in milliseconds. */
export const DEFAULT_WAIT_MS = 10_000;

/** A forward of each channel of a group, as text, because the channel's label goes into it. */
export interface ForwardTemplate {
  /** `outgoing` (`-o`) listens here; `incoming` (`-i`) serves here. */
  readonly direction: Direction;
  /** As `-o` and `-i` take it, with `{channel}` for the label: `ssh:/run/vproxy/{channel}/ssh.sock`. */
  readonly text: string;
}

/** When and where the broker runs. */
export interface StorageOptions {
  /** False: never (`--no-storage`). Default true. */
  readonly isAllowed?: boolean;
  /** The broker's socket: makes it run on any kind of channel; one that cannot be listened on is an error then. */
  readonly socketPath?: string | null;
  /** Calls at once to an emulator that listens at the peer. Default 1. */
  readonly parallel?: number;
  /** `$XDG_RUNTIME_DIR`, for the default path. */
  readonly runtimeDirectory?: string | null;
}

/** The rule of one service, as it is said for many channels at once. */
export interface ChannelPolicy extends ServicePolicy {
  /** The labels of the channels, and of the groups, whose peers may open it. Default: all. */
  readonly channels?: readonly string[];
  /** Of `exec` alone: the absolute path of the folder in which terminals are recorded. Default: none is. */
  readonly recordFolder?: string;
  /** Of `exec` alone: whether what is typed in them is recorded, too. Default false. */
  readonly recordsInput?: boolean;
}

/** Rules by the names of their services. */
export type ChannelPolicies = Readonly<Record<string, ChannelPolicy>>;

/** One channel with its forwards; or a group of channels, where the address has a `*` (see `isGroup`). */
export interface ChannelOptions {
  /** Its name in this process: 1 to 64 of `a-z`, `0-9`, dot, underscore and hyphen. Default `default`. */
  readonly label?: string;
  /** The label of the group that it is made for, or null. Default null. */
  readonly group?: string | null;
  /** The text of the channel, `KIND:ADDRESS[,key=value…]`, or a URI. */
  readonly address: string;
  /** Of a channel. Default: none. */
  readonly forwards?: readonly ForwardSpec[];
  /** Of a group, in the place of `forwards`. Default: none. */
  readonly template?: readonly ForwardTemplate[];
  /** The operator's name for this side, told to the peer. Default null. */
  readonly name?: string | null;
  /** How long a local connection waits for a session, in milliseconds. Default 10,000. */
  readonly waitMs?: number;
  /** Silence for so long ends the session, in milliseconds; null: never. Default: what suits the channel's kind. */
  readonly deadAfterMs?: number | null;
  /** How much the system holds of what is written to a link over a unix socket, in bytes. Default 1,048,576. */
  readonly bufferBytes?: number;
  /** Lets the channel listen on addresses that other machines reach. Default false. */
  readonly insecure?: boolean;
  /** Files of the keys that this side has, preferred first; with one it accepts no peer without. Default: none. */
  readonly keyFiles?: readonly string[];
  /** Tells TCP and unix targets whom they serve, by the PROXY protocol. Default false. */
  readonly peerAddress?: boolean;
  /** What the peer may do with services of this side, by name. Default: whatever is offered is open to it. */
  readonly policies?: ChannelPolicies;
  /** Where the targets of egresses let the peer out to, by the names of these. Default: nowhere. */
  readonly egress?: ChannelEgress;
  /** The broker of storage calls on this channel. Default: it runs where the channel leads to a host. */
  readonly storage?: StorageOptions;
  /** What the peer may run on this side; null: nothing, not even the service is offered. Default null. */
  readonly exec?: ExecPermission | null;
  /** Which files of this side the peer may read and write; null: none. Default null. */
  readonly copy?: CopyPermission | null;
  /** Whether the peer may ask what this machine is, and how it is: name, system, memory, disks, addresses. Default: where the channel leads to a host. */
  readonly info?: boolean;
  /** The ports of which the peer is told when somebody listens on them here, and to which it gets streams then; null: none. Default null. */
  readonly announcePorts?: readonly PortRange[] | null;
  /** The ports that are listened for here while the peer announces them; null: none. Default null. */
  readonly forwardPorts?: PortForwarding | null;
}

/**
 * What a running channel takes over where it is another one; any other option makes it begin again, and so do the first
 * key and the lack of one. The table of settings has to say the same: see `ChannelSetting`.
 */
export const ADOPTED_OPTIONS = [
  'forwards',
  'keyFiles',
  'policies',
  'egress',
  'exec',
  'copy',
  'info',
  'announcePorts',
  'forwardPorts',
] as const satisfies readonly (keyof ChannelOptions)[];

/** The label itself. Throws `bad-argument` for a text that is not one. */
export function parseLabel(text: string): string {
  if (isLabel(text)) return text;
  throw new VproxyError('bad-argument', `channel label "${escapeText(text, 80)}": it is not ${LABEL_RULE}`);
}

/** The error for a label that two channels would have. */
export const labelTaken = (label: string): VproxyError =>
  new VproxyError('bad-argument', `channel ${label} is there already; each channel has its own label`);

/** The error for a channel that another one of the same process is already. */
export const placeTaken = (label: string, address: string, other: string): VproxyError =>
  new VproxyError(
    'bad-argument',
    `channel ${label}: ${escapeText(address)} is the channel ${other} already; one process has a channel once`,
  );

/** Other machines could connect to the channel, and nothing would protect it: throws `bad-argument`. */
export function requirePrivacy({ kind, address, text, traits }: ChannelAddress, isInsecureAllowed: boolean): void {
  if (kind.mode === 'dial' || isInsecureAllowed || traits.tls !== null || kind.isPrivate(address)) return;
  throw new VproxyError(
    'bad-argument',
    `channel "${text}": listening where other machines can connect needs TLS (tls=psk or tls=cert) or --insecure; 127.0.0.1 or [::1] does not`,
  );
}

/** What the process says of itself on all its channels, and what they share. */
export interface ProcessIdentity {
  readonly instance: string;
  readonly agent: string;
  /** What all windows of all channels may grow by together. */
  readonly budget: Budget;
  /** What all sessions keep for other links together. */
  readonly keptBudget: FairBudget;
}

/** The settings of the sessions on a channel. */
export function settingsFor(
  { traits }: ChannelAddress,
  options: ChannelOptions,
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
    name: options.name ?? null,
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
    deadAfterMs: options.deadAfterMs === undefined ? traits.deadAfterMs : options.deadAfterMs,
    timeOfDay: Date.now,
    receiveBudget: new Budget(CHANNEL_BUDGET_BYTES, budget),
  });
}

function secureLayer(traits: ChannelTraits, keys: () => readonly SecretKey[]): SecureLayerFactory | null {
  if (traits.tls === null) return null;
  return traits.tls === 'psk' ? tlsWithKeys(keys) : tlsWithCertificates(() => readCertificates(traits));
}

// The keys of a channel, from the files that have them.

/** More would not fit HELLO, which names them all. */
const MAX_KEYS = 32;

/**
 * The keys in `keyFiles`, in their order. Throws `bad-file`, which names the file and shows nothing of it, and
 * `bad-argument` for too many, or for none where the channel needs one.
 */
export function readKeys({ keyFiles = [] }: ChannelOptions, { text, traits }: ChannelAddress): SecretKey[] {
  if (keyFiles.length > MAX_KEYS) throw bad(text, `${keyFiles.length} keys exceed ${MAX_KEYS}`);
  if (traits.tls === 'psk' && keyFiles.length === 0) throw bad(text, 'tls=psk needs a key (--key FILE)');
  return keyFiles.map(readKey);
}

function readKey(path: string): SecretKey {
  try {
    return SecretKey.parse(readSecretFile(path));
  } catch (error) {
    const { message } = toVproxyError(error);
    const isNamed = message.startsWith(escapeText(path));
    throw new VproxyError('bad-file', isNamed ? message : `${escapeText(path)}: ${message}`);
  }
}

const bad = (channel: string, what: string): VproxyError =>
  new VproxyError('bad-argument', `channel "${escapeText(channel)}": ${what}`);

// The rules of services on a channel, and which of them differ when its options do.

/** The rule on the channel `label` of the group `group`. */
export function resolvePolicy(
  { channels, ...policy }: ChannelPolicy,
  label: string,
  group: string | null,
): ServicePolicy {
  if (channels === undefined || channels.some((name) => name === label || name === group)) return policy;
  return { ...policy, isAllowed: false };
}

/** The names of the services whose rule is another one. */
export function changedPolicies(one: ChannelPolicies = {}, other: ChannelPolicies = {}): string[] {
  const names = new Set([...Object.keys(one), ...Object.keys(other)]);
  return [...names].filter((name) => !haveEqualValues(one[name] ?? {}, other[name] ?? {}));
}
