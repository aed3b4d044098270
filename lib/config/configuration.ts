/** What a process of vproxy is to be: the plain values that a command line and a file become. */
import type { Rotation } from '../forward/log-file.js';
import type { ForwardSpec } from '../forward/spec.js';
import type { ChannelOptions } from '../proxy/channel-options.js';
import type { ChannelPolicies } from '../proxy/channel-policy.js';
import type { CopyPermission } from '../proxy/copy-service.js';
import type { ExecPermission } from '../proxy/exec-service.js';
import type { StorageOptions } from '../proxy/storage-service.js';
import type { HostPort } from '../util/host-port.js';
import type { LogLevel } from '../util/log-event.js';

/** How a line of the log looks. */
export type LogFormat = 'text' | 'json';

/** Where the audit log is. */
export interface AuditPlace {
  readonly path: string;
  /** Null: it is never rotated. */
  readonly rotation: Rotation | null;
}

/** What is asked of the process besides its channels; what is not asked for is not there. */
export interface ProcessSettings {
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
