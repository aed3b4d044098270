/** What a process of vproxy is to be: the plain values that a command line and a file become. */

import { toVproxyError, VproxyError } from '../errors.js';
import type { LogLevel } from '../events.js';
import type { Direction } from '../forward/endpoint-kind.js';
import { type ForwardSpec, formatForwardSpec, parseForwardSpec } from '../forward/spec.js';
import type { ChannelOptions, ChannelPolicies, ForwardTemplate, StorageOptions } from '../proxy/channel-options.js';
import type { CopyPermission, ExecPermission } from '../proxy/services/built-in.js';
import type { Rotation } from '../system/log-file.js';
import type { HostPort } from '../util/addresses.js';

/** How a line of the log looks. */
export type LogFormat = 'text' | 'json';

/** Where the audit log is. */
export interface AuditPlace {
  readonly path: string;
  /** Null: it is never rotated. */
  readonly rotation: Rotation | null;
}

/** What is asked of the process besides its channels; what is not asked for is not there. */
interface ProcessSettings {
  /** The operator's name for this process, told to the peers of all channels that have none of their own. */
  readonly name?: string;
  /** The path of the control socket; false: none. Default: a path made from the name. */
  readonly control?: string | false;
  /** Where metrics are served by TCP as well. Default: nowhere. */
  readonly metrics?: HostPort;
  /** The audit log. Default: none. */
  readonly audit?: AuditPlace;
  /** Whether the process ends with the first session. Default false. */
  readonly once?: boolean;
  /** The least important level that is logged. Default `info`. */
  readonly logLevel?: LogLevel;
  /** Default `text`. */
  readonly logFormat?: LogFormat;
  /** Whether lines of text show the facts of their events. Default false. */
  readonly logDetails?: boolean;
}

/** What can be said for one channel, or for all; its fields are those of `ChannelOptions`. */
export interface ChannelSettings {
  readonly waitMs?: number;
  readonly deadAfterMs?: number | null;
  readonly insecure?: boolean;
  readonly keyFiles?: readonly string[];
  readonly peerAddress?: boolean;
  readonly policies?: ChannelPolicies;
  readonly storage?: StorageOptions;
  readonly exec?: ExecPermission | null;
  readonly copy?: CopyPermission | null;
}

/** One channel of a file. */
export interface FileChannel extends ChannelSettings {
  readonly label: string;
  readonly address: string;
  readonly name?: string;
  readonly forwards: readonly ForwardSpec[];
}

/** What a file says. */
export interface FileLayer extends ProcessSettings {
  /** For every channel that says nothing else, also for those of the command line. */
  readonly defaults: ChannelSettings;
  readonly channels: readonly FileChannel[];
}

/** What a command line says. */
export interface FlagLayer extends ProcessSettings {
  /** For every channel, whatever the file says of it. */
  readonly settings: ChannelSettings;
  readonly channels: readonly { readonly label: string; readonly address: string }[];
  /** The texts of `-o` and `-i`, which may name a channel. */
  readonly forwards: readonly { readonly direction: ForwardSpec['direction']; readonly text: string }[];
  /** What ports mean on each `*:vsock-mux:/path`. */
  readonly vsockPorts: Readonly<Record<number, string>>;
}

/** What is in force: nothing is left to defaults but where the control socket is. */
export interface Configuration extends ProcessSettings {
  readonly once: boolean;
  readonly logLevel: LogLevel;
  readonly logFormat: LogFormat;
  readonly logDetails: boolean;
  /** What was said for all channels, for one that is added later. */
  readonly channelDefaults: ChannelSettings & { readonly name: string | null };
  readonly channels: readonly (ChannelOptions & { readonly label: string })[];
}

// Forwards of a group, in which `{channel}` stands for the label of each of its channels. Until they are a template again
// they have a word in its place that may stand wherever a label may, so that they are parsed as any other forward.

const PLACEHOLDER = '{channel}';

/** As long as the placeholder, and nothing that anybody would write. */
const STAND_IN = 'x1chann3l';

/** The forward of a text, for a group or for a channel, where `{channel}` means nothing. Throws `bad-argument`. */
export function parseForwardFor(isGroup: boolean, direction: Direction, text: string): ForwardSpec {
  if (!isGroup) return parseForwardSpec(direction, text);
  try {
    return parseForwardSpec(direction, text.replaceAll(PLACEHOLDER, STAND_IN));
  } catch (error) {
    throw new VproxyError('bad-argument', toVproxyError(error).message.replaceAll(STAND_IN, PLACEHOLDER));
  }
}

/** What the group is given in the place of such a forward. */
export function toTemplate(spec: ForwardSpec): ForwardTemplate {
  return { direction: spec.direction, text: formatForwardSpec(spec).replaceAll(STAND_IN, PLACEHOLDER) };
}

// Rules of services in a configuration: those for all channels with those of one, and their form in a file.

/** The rules as a file says them. */
export function describeServiceRules(policies: ChannelPolicies): Record<string, object> {
  return Object.fromEntries(
    Object.entries(policies).map(([service, { channels, streams, opensPerSecond, bytesPerSecond, idleTimeoutMs }]) => [
      service,
      {
        ...(channels === undefined ? {} : { channels }),
        ...(streams === undefined ? {} : { streams }),
        ...(opensPerSecond === undefined ? {} : { 'opens-per-second': opensPerSecond }),
        ...(bytesPerSecond === undefined ? {} : { 'bytes-per-second': bytesPerSecond }),
        ...(idleTimeoutMs === undefined ? {} : { 'idle-timeout': idleTimeoutMs / 1000 }),
      },
    ]),
  );
}

/** Both, of which `own` wins, key by key. */
export function mergeServiceRules(defaults: ChannelPolicies = {}, own: ChannelPolicies = {}): ChannelPolicies {
  const services = new Set([...Object.keys(defaults), ...Object.keys(own)]);
  return Object.fromEntries([...services].map((service) => [service, { ...defaults[service], ...own[service] }]));
}
