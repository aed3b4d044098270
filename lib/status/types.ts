/**
 * What a running process says of itself, as plain values that can be written as JSON. Written by `npm run openapi` from
 * `schemas.ts`: change it there. Times are in milliseconds, moments are ISO 8601 texts in UTC, amounts are in bytes, rates
 * in bytes per second. Text from a peer is as the peer sent it: escape it before showing it.
 */

import type { LogLevel } from '../events.js';
import type { Direction } from '../forward/endpoint-kind.js';
import type { StreamWait } from '../session/local-end.js';

/**
 * `opening`: the channel is being opened, or is open and its peer has not answered yet. `waiting`: for the host or the
 * peer. `backing-off`: the last attempt failed, and the next follows by itself. `auth-failed`: the two sides have no
 * key in common, or not the same protection; the next attempts come at growing intervals. `established`: it has a
 * session. `suspended`: its session waits for another link. `draining`: it takes no new streams; those that are open
 * may finish. `failed`: it can never work.
 */
export type ChannelState =
  | 'opening'
  | 'waiting'
  | 'backing-off'
  | 'auth-failed'
  | 'established'
  | 'suspended'
  | 'draining'
  | 'failed';

/** One channel. */
export interface ChannelStatus {
  /** Its name in this process. */
  readonly label: string;
  /** The label of the group that it was made for; null if it was added by itself. */
  readonly group: string | null;
  /** Its canonical text. */
  readonly address: string;
  /**
   * `opening`: the channel is being opened, or is open and its peer has not answered yet. `waiting`: for the host or
   * the peer. `backing-off`: the last attempt failed, and the next follows by itself. `auth-failed`: the two sides have
   * no key in common, or not the same protection; the next attempts come at growing intervals. `established`: it has a
   * session. `suspended`: its session waits for another link. `draining`: it takes no new streams; those that are open
   * may finish. `failed`: it can never work.
   */
  readonly state: ChannelState;
  /** Since when it has been in this state; ISO 8601, UTC. */
  readonly since: string;
  /** What it waits for, or why it failed; else null. */
  readonly detail: string | null;
  /** The time until the next attempt; null unless `backing-off`, or `suspended`. */
  readonly nextTryMs: number | null;
  /** Null while it has no session. */
  readonly session: SessionStatus | null;
  /**
   * What the system granted of `buffer`; null before a write filled its own one, and on a channel that is no unix
   * socket.
   */
  readonly bufferBytes: number | null;
  /** The sessions that a channel had. */
  readonly history: SessionHistory;
  /** What went over a channel since it was added. */
  readonly totals: ChannelTotals;
}

/** The current session. */
export interface SessionStatus {
  /** What the peer says of itself. */
  readonly peer: {
    /** Program and version, as the peer says. */
    readonly agent: string;
    /** The name that its operator gave it, or null. */
    readonly name: string | null;
    /** The services that it offers. */
    readonly services: readonly string[];
  };
  /** The version of the protocol that both sides speak. */
  readonly protocolVersion: number;
  /** How the bytes of streams are checked: that none are lost, repeated or cut off, or also that none are changed. */
  readonly integrity: 'frame' | 'full';
  /** The id of the key by which the two sides have authenticated each other; null without a key. */
  readonly key: string | null;
  /** How the channel is encrypted: with a key, or with certificates on both sides; null: not by vproxy. */
  readonly tls: 'psk' | 'cert' | null;
  /** Whether each side lets the session outlive its link; it does where both do. */
  readonly resume: {
    /** Whether this side does. */
    readonly here: boolean;
    /** Whether the peer does. */
    readonly peer: boolean;
  };
  /** The time since it was established. */
  readonly ageMs: number;
  /** The round trip through the peer; null before the first measurement. */
  readonly roundTripMs: number | null;
  /** By how much the peer's clock was ahead when it last said what it offers; null if it sent no time. */
  readonly clockOffsetMs: number | null;
  /** The number of open streams. */
  readonly streams: number;
  /** What may still be sent before the peer gives more, all streams together. */
  readonly sendCreditBytes: number;
  /** What the channel was given and has not written. */
  readonly unwrittenBytes: number;
}

/** The sessions that a channel had. */
export interface SessionHistory {
  /** The number of sessions established, including the current one. */
  readonly sessions: number;
  /** The number that ended with each code of docs/errors.md; `other` for codes that are not in it. */
  readonly ends: Readonly<Record<string, number>>;
  /** The last ones that ended, the newest first; at most 16. */
  readonly recent: readonly {
    /** When it ended; ISO 8601, UTC. */
    readonly at: string;
    /** How long it had lasted. */
    readonly ageMs: number;
    /** Why it ended, as a code of docs/errors.md, or as the peer said it. */
    readonly code: string;
    /** Why it ended, in one line. */
    readonly message: string;
  }[];
}

/** What went over a channel since it was added. */
export interface ChannelTotals {
  /** Payload of streams that was sent. */
  readonly sentBytes: number;
  /** Payload of streams that was received. */
  readonly receivedBytes: number;
  /** Frames of every type that were sent. */
  readonly sentFrames: number;
  /** Frames of every type that were received. */
  readonly receivedFrames: number;
  /** Bytes that belonged to no session. */
  readonly skippedBytes: number;
  /** The time in which nothing passed although something waited, in waits of a second or more. */
  readonly stallMs: number;
  /** Streams that either side has opened. */
  readonly streamsOpened: number;
  /** Streams that did not end in order, including refused ones. */
  readonly streamsFailed: number;
  /** How often a session went on with another link. */
  readonly resumptions: number;
  /** What was sent again then, of frames of every type. */
  readonly resentBytes: number;
}

/** What a reload has changed. */
export interface ChannelChanges {
  /** Labels of new channels. */
  readonly addedChannels: readonly string[];
  /** Labels of channels that were removed. */
  readonly removedChannels: readonly string[];
  /** Labels of channels that were started again, because their address or settings have changed. */
  readonly replacedChannels: readonly string[];
  /** New forwards, each as LABEL and its text. */
  readonly addedForwards: readonly string[];
  /** Forwards that were removed, or are when their streams have ended, each as LABEL and its text. */
  readonly removedForwards: readonly string[];
  /** Services whose rule or permission has changed, each as LABEL and its name. */
  readonly changedPolicies: readonly string[];
  /** Egresses whose rules have changed, each as LABEL and its name. */
  readonly changedEgress: readonly string[];
}

/** What a reload has changed, and what it has not. */
export interface ReloadAnswer extends ChannelChanges {
  /** Keys of the file whose change counts from the next start on. */
  readonly nextStart: readonly string[];
}

/** What flows of datagrams have carried. */
export interface DatagramCounts {
  /** Messages that went to the peer. */
  readonly sent: number;
  /** Messages for the peer that were dropped on this side. */
  readonly sendDropped: number;
  /** Messages that came from the peer and were passed on. */
  readonly received: number;
  /** Messages from the peer that were dropped on this side. */
  readonly receiveDropped: number;
}

/** One forward. */
export interface ForwardStatus {
  /** `f1`, `f2`, …: unique in the process. */
  readonly id: string;
  /** The label of its channel. */
  readonly channel: string;
  /** `outgoing`: opened or listened for on this side; `incoming`: opened by the peer, served on this side. */
  readonly direction: Direction;
  /** The service that it leads to, or serves; `*` where the program that connects names it. */
  readonly service: string;
  /** The endpoint in force, with the port that was picked where 0 was asked for. */
  readonly endpoint: string;
  /** The text that it was made from, as `-o` and `-i` take it. */
  readonly spec: string;
  /** `draining`: it takes nothing new, and is removed when its streams have ended. */
  readonly state: 'active' | 'draining';
  /** The number of open streams. */
  readonly streams: number;
  /** The number of streams that it ever had. */
  readonly opened: number;
  /** The messages of all its flows, those that have ended too; null where it has no datagrams. */
  readonly datagrams: DatagramCounts | null;
}

/** A service that is offered to the peer of a channel, or by it. */
export interface ServiceStatus {
  /** The label of the channel. */
  readonly channel: string;
  /** Its name. */
  readonly service: string;
  /** Which side serves it. */
  readonly offeredBy: 'here' | 'peer';
  /** The incoming forward that serves it; null for the peer's, and for one that a program or the broker serves. */
  readonly forward: string | null;
}

/** An egress of a channel. */
export interface EgressStatus {
  /** The label of the channel. */
  readonly channel: string;
  /** Its name. */
  readonly name: string;
  /** The services whose forwards lead to it. */
  readonly services: readonly string[];
  /** What is in force on the channel; null: nothing is said of it, and everything is refused. */
  readonly rules: {
    /** The entries of what may be reached. */
    readonly allow: readonly string[];
    /** The entries of what may not. */
    readonly deny: readonly string[];
    /** The HTTP proxy behind which everything is reached, or null. */
    readonly upstream: string | null;
  } | null;
}

/** What would become of a destination. */
export interface EgressTest {
  /** The label of the channel. */
  readonly channel: string;
  /** The name of the egress. */
  readonly name: string;
  /** `HOST:PORT` as it was understood. */
  readonly destination: string;
  /** Whether it may be reached. */
  readonly isAllowed: boolean;
  /** The entry that decides, with its list, such as `allow "*.example.org:443"`; null: none. */
  readonly rule: string | null;
  /** Why, for people. */
  readonly why: string;
  /** The addresses that its name has now; empty where it is not resolved here. */
  readonly addresses: readonly {
    /** An address of the destination. */
    readonly address: string;
    /** Whether it may be reached. */
    readonly isAllowed: boolean;
    /** The entry that decides, with its list, such as `allow "*.example.org:443"`; null: none. */
    readonly rule: string | null;
    /** Why, for people. */
    readonly why: string;
  }[];
}

/** A port that somebody listens on, and that a side announces. */
export interface PortStatus {
  /** The label of the channel. */
  readonly channel: string;
  /** Its number on the machine of the side that announces it. */
  readonly port: number;
  /** The program that listens there, as that side says; null where it is not known. */
  readonly program: string | null;
  /** Which side announces it. */
  readonly announcedBy: 'here' | 'peer';
  /** `here`: what is dialled for its streams. `peer`: where this side listens for it, or null. */
  readonly endpoint: string | null;
  /** The id of its forward, or null. */
  readonly forward: string | null;
  /** The number of open streams. */
  readonly streams: number;
}

/** One stream. */
export interface StreamStatus {
  /** The label of its channel. */
  readonly channel: string;
  /** Its number in the session; 0 while its opening is held back. */
  readonly id: number;
  /** The service that it was opened to. */
  readonly service: string;
  /** `outgoing`: opened or listened for on this side; `incoming`: opened by the peer, served on this side. */
  readonly direction: Direction;
  /** The id of its forward, or null. */
  readonly forward: string | null;
  /** Where the program that opened it came from, as its side says. */
  readonly from: string | null;
  /** The time since it was opened. */
  readonly ageMs: number;
  /** Payload that went to the peer. */
  readonly sentBytes: number;
  /** Payload that came from the peer. */
  readonly receivedBytes: number;
  /** What may be sent before the peer gives more. */
  readonly sendCreditBytes: number;
  /** What the peer may send before it is given more. */
  readonly receiveCreditBytes: number;
  /** What it waits for; null if nothing waits. */
  readonly waitsFor: StreamWait | null;
  /** The messages of a flow of datagrams; null for all else. */
  readonly datagrams: DatagramCounts | null;
}

/** One stream, with its rates. */
export interface StreamWithRates extends StreamStatus {
  /** Bytes per second, over the last 0.2 to 3 s, or since it was opened. */
  readonly sendRate: number;
  /** As `sendRate`. */
  readonly receiveRate: number;
}

/** How a stream of one connection has ended. */
export interface StreamEnd {
  /** `open`: at least one direction goes on; `ended`: both have ended in order; `reset`: it has failed. */
  readonly state: 'open' | 'ended' | 'reset';
  /** Why it was reset, else null. */
  readonly error: {
    /** A code of docs/errors.md, or a newer one that the peer sent. */
    readonly code: string;
    /** One line for people. */
    readonly message: string;
  } | null;
}

/** By how much timers came late, in milliseconds. */
export interface LoopDelay {
  /** The average. */
  readonly meanMs: number;
  /** The 99th percentile. */
  readonly p99Ms: number;
  /** The maximum. */
  readonly maxMs: number;
}

/** The process as a whole; amounts in bytes, times in milliseconds. */
export interface ProcessStatus {
  /** The name that its operator gave it, or null. */
  readonly name: string | null;
  /** Its process id. */
  readonly pid: number;
  /** Program and version, such as `vproxy 0.1.0`. */
  readonly version: string;
  /** The version of Node. */
  readonly node: string;
  /** When it was started; ISO 8601, UTC. */
  readonly startedAt: string;
  /** The time since then. */
  readonly uptimeMs: number;
  /** The memory that it uses. */
  readonly memory: {
    /** Resident in the machine's memory. */
    readonly residentBytes: number;
    /** Objects of JavaScript. */
    readonly heapBytes: number;
    /** Memory of these objects outside the heap, such as buffers. */
    readonly externalBytes: number;
  };
  /** Since the last request for it; null on the first request in a minute, which starts the measurement. */
  readonly eventLoopDelay: LoopDelay | null;
  /** The least important level that it logs. */
  readonly logLevel: LogLevel;
}

/** The process and its channels. */
export interface ControlStatus {
  /** The process as a whole; amounts in bytes, times in milliseconds. */
  readonly process: ProcessStatus;
  /** Every channel. */
  readonly channels: readonly ChannelStatus[];
  /** The number of forwards, on all channels together. */
  readonly forwards: number;
  /** The number of open streams, on all channels together. */
  readonly streams: number;
}

/** One event. */
export interface ControlEvent {
  /** 1 for the first event of the process, and one more for each. */
  readonly seq: number;
  /** When it happened; ISO 8601, UTC. */
  readonly time: string;
  /** How much it matters. */
  readonly level: LogLevel;
  /** What happened, as a stable name. */
  readonly event: string;
  /** One line for people. Foreign text in it is escaped. */
  readonly message: string;
  /** The same facts for programs; `channel` is the label of the channel. */
  readonly fields: Readonly<Record<string, string | number | boolean | null | readonly string[]>>;
}

/** The answer of `POST /v1/ping`. */
export interface PingAnswer {
  /** The label of the channel. */
  readonly channel: string;
  /** To the peer and back, in milliseconds. */
  readonly roundTripMs: number;
}

/** How far a machine is with booting. */
export interface BootState {
  /** The state of systemd, as `systemctl is-system-running` prints it; null where the init is another one. */
  readonly systemd:
    | 'initializing'
    | 'starting'
    | 'running'
    | 'degraded'
    | 'maintenance'
    | 'stopping'
    | 'offline'
    | 'unknown'
    | null;
  /** Why systemd could not be asked, where it is `unknown`; else null. */
  readonly systemdError: string | null;
  /** The units of systemd that failed, where it is `degraded`: 32 at most. */
  readonly failedUnits: readonly string[];
  /** How far cloud-init is; `degraded`: done, with errors that it has recovered from; null where there is none. */
  readonly cloudInit: 'not-started' | 'running' | 'done' | 'degraded' | 'error' | 'disabled' | null;
  /** The first error of cloud-init; else null. */
  readonly cloudInitError: string | null;
}

/** A file system of a machine that is mounted, and not from a network. */
export interface Disk {
  /** Where it is mounted. */
  readonly mountPoint: string;
  /** What is mounted there: `/dev/vda1`. */
  readonly device: string;
  /** The type of its file system: `ext4`. */
  readonly type: string;
  /** Its size; null where the system did not answer in time. */
  readonly sizeBytes: number | null;
  /** What nothing is in, what is reserved for root included; or null. */
  readonly freeBytes: number | null;
  /** What users other than root can still write; or null. */
  readonly availableBytes: number | null;
}

/** A network interface of a machine that has an address. */
export interface NetworkInterface {
  /** Its name: `eth0`. */
  readonly name: string;
  /** Its hardware address; null where it has none. */
  readonly mac: string | null;
  /** Its addresses, each with the length of its network: `192.0.2.7/24`; 32 at most. */
  readonly addresses: readonly string[];
}

/** What a machine says of itself. */
export interface Machine {
  /** Its host name. */
  readonly hostName: string;
  /** What /etc/os-release says; null where it is missing. */
  readonly os: {
    /** `ID` of os-release: `debian`; or null. */
    readonly id: string | null;
    /** `VERSION_ID`: `13`; or null. */
    readonly versionId: string | null;
    /** `PRETTY_NAME`: `Debian GNU/Linux 13 (trixie)`; or null. */
    readonly name: string | null;
  } | null;
  /** Its kernel. */
  readonly kernel: {
    /** `Linux`. */
    readonly name: string;
    /** Its version, as `uname -r` prints it. */
    readonly release: string;
    /** `x86_64`, as `uname -m` prints it. */
    readonly architecture: string;
  };
  /** The id of this boot: another one after each; null where it is not known. */
  readonly bootId: string | null;
  /** The time since it was booted, in seconds. */
  readonly uptimeS: number;
  /** The number of processors that programs can use. */
  readonly processors: number;
  /** The load averages of the last 1, 5 and 15 minutes. */
  readonly load: readonly number[];
  /** Its memory. */
  readonly memory: {
    /** What it has. */
    readonly totalBytes: number;
    /** What programs can still have without swapping. */
    readonly availableBytes: number;
    /** What it has of swap. */
    readonly swapTotalBytes: number;
    /** What of that is free. */
    readonly swapFreeBytes: number;
  };
  /** Its file systems: 64 at most. */
  readonly disks: readonly Disk[];
  /** Its network interfaces that have an address: 64 at most. */
  readonly interfaces: readonly NetworkInterface[];
  /** How far it is with booting. */
  readonly boot: BootState;
}

/** What the machine of a peer says of itself, and what was measured of it. */
export interface MachineInfo extends Machine {
  /** The label of the channel. */
  readonly channel: string;
  /** Its clock, beside the clock of this side. */
  readonly clock: {
    /** By how much its time of day is ahead of this side's, in milliseconds. */
    readonly offsetMs: number;
    /** By how much that may be wrong, either way, in milliseconds. */
    readonly uncertaintyMs: number;
    /** The round trip that it was measured with, in milliseconds. */
    readonly roundTripMs: number;
  };
}

/** How far the machine of a peer is with booting, and what that means. */
export interface BootStatus extends BootState {
  /** The label of the channel. */
  readonly channel: string;
  /** `booted`: all of it is done; `failed`: it is done, and something in it has failed. */
  readonly verdict: 'booting' | 'booted' | 'failed';
  /** What it waits for, or what has failed, each as a line for people, in which foreign text is escaped. */
  readonly remarks: readonly string[];
}

/** The answer of `POST /v1/upgrade`. */
export interface UpgradeAnswer {
  /** The number of the process that goes on. */
  readonly pid: number;
  /** Its program and version. */
  readonly version: string;
  /** The sessions that it goes on with. */
  readonly sessions: number;
  /** The streams that it goes on with. */
  readonly streams: number;
  /** The sockets that it listens on. */
  readonly listeners: number;
  /** Streams that were reset, as they could not be handed over: `force` was given. */
  readonly cut: readonly string[];
  /** For how long nothing else was done, in milliseconds. */
  readonly durationMs: number;
}

/** The body of every answer that is an error. */
export interface ErrorBody {
  /** What was wrong. */
  readonly error: {
    /** A code of docs/errors.md, or a newer one that the peer sent. */
    readonly code: string;
    /** One line for people. */
    readonly message: string;
    /** The path of the field that is wrong, in the body or the query. */
    readonly field?: string;
  };
}
