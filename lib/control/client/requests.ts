/**
 * What is asked of a running process, as plain values. Written by `npm run openapi` from the table of settings in
 * `lib/settings/`: change it there.
 */

/** A channel to be added; what it does not say is as the process was given it for all channels. */
export interface ChannelRequest {
  /** How long a local connection waits for a session. */
  readonly waitS?: number;
  /** Silence for so long ends the session; 0: never. Default: what suits the kind of channel. */
  readonly deadAfterS?: number;
  /** How many bytes the system holds for its peer where it is a unix socket; net.core.wmem_max bounds it. */
  readonly buffer?: number;
  /** Lets it listen on addresses that other machines reach. */
  readonly insecure?: boolean;
  /** Absolute paths, on this machine, of files with keys that its peer must have as well, as --key takes them. */
  readonly keys?: readonly string[];
  /** Tells targets that are sockets which channel and stream they serve, by the PROXY protocol. */
  readonly peerAddress?: boolean;
  /** Whether its peer may run commands here: any, none, or the programs of these absolute paths. */
  readonly allowExec?: boolean | readonly string[];
  /** Whether its peer may read and write files here: all, none, or those below this absolute path. */
  readonly allowCopy?: boolean | string;
  /** Whether its peer may ask about this machine: names, memory, disks, addresses; default: where it is a host. */
  readonly info?: boolean;
  /** Ports, such as 3000-9999,18080: its peer is told of those that somebody listens on here, and can connect. */
  readonly announcePorts?: boolean | string;
  /** Ports, such as 3000-9999: those that its peer announces are listened for here; address= or dir= says where. */
  readonly forwardPorts?: boolean | string;
  /** What its peer may do with services of this side, by their names. */
  readonly services?: Readonly<Record<string, RuleRequest>>;
  /** Where the targets of egresses let its peer out to, by the names of these. */
  readonly egress?: Readonly<Record<string, EgressRequest>>;
  /** The name for this side that the peer is told. */
  readonly name?: string;
  /** KIND:ADDRESS[,key=value…], as -c takes it, or a URI. */
  readonly address: string;
  /** Forwards as -o takes them. */
  readonly outgoing?: readonly string[];
  /** Forwards as -i takes them. */
  readonly incoming?: readonly string[];
  /** Whether the storage broker runs, where the channel leads to a host; or how it runs. */
  readonly storage?: boolean | BrokerRequest;
  /** The services of ports, for each outgoing *:vsock-mux:/path. */
  readonly vsockPorts?: Readonly<Record<string, string>>;
  /** Its name in this process; default: `default`. */
  readonly label?: string;
}

/** What the peer may do with a service; what is not said is not bounded. */
export interface RuleRequest {
  /** The labels of the channels, and of the groups, whose peers may open it; default: all. */
  readonly channels?: readonly string[];
  /** Streams at once on each channel. */
  readonly streams?: number;
  /** Streams opened a second on each channel, in the long run; the same number may be opened at once. */
  readonly opensPerSecond?: number;
  /** Bytes a second, each way, of all streams of a channel together. */
  readonly bytesPerSecond?: number;
  /** A stream over which nothing passed for this time is reset. */
  readonly idleTimeoutS?: number;
  /** The folder in which terminals of commands are recorded; of the service exec alone. */
  readonly record?: string;
  /** Whether what is typed is recorded, too, passwords among it; default false. */
  readonly recordInput?: boolean;
}

/** Where the targets of an egress let the peer out to; `{channel}` in an entry stands for the label. */
export interface EgressRequest {
  /** What may be reached: names, addresses and networks, each with its ports; default: nothing. */
  readonly allow?: readonly string[];
  /** What may not be reached, whatever `allow` says; default: nothing more. */
  readonly deny?: readonly string[];
  /** The HTTP proxy behind which everything is reached, `HOST:PORT`; default: none. */
  readonly upstream?: string;
}

/** How the storage broker of a channel runs. */
export interface BrokerRequest {
  /** The absolute path of the socket for wrappers: makes the broker run on any kind of channel. */
  readonly socket?: string;
  /** Calls at once to an emulator that listens at the peer; default: 1. */
  readonly parallel?: number;
}
