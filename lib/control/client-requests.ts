/** What a control socket is asked: plain values, such as they stand in JSON. Types alone. */
import type { ExecRequest } from '../exec/messages.js';

/** A channel to be added. */
export interface ChannelRequest {
  /** `KIND:ADDRESS[,key=value…]`, or a URI. */
  readonly address: string;
  /** Default: `default`. */
  readonly label?: string;
  /** Texts such as `-o` takes. */
  readonly outgoing?: readonly string[];
  /** Texts such as `-i` takes. */
  readonly incoming?: readonly string[];
  /** The name of this side, told to the peer. */
  readonly name?: string;
  /** For how long local connections wait for a session. */
  readonly waitS?: number;
  /** Silence for so long ends a session; 0: never. */
  readonly deadAfterS?: number;
  /** Whether the channel may be on a network without a key and without TLS. Default false. */
  readonly insecure?: boolean;
  /** Absolute paths of key files, on the machine of the process. Default: what it was given for all channels. */
  readonly keys?: readonly string[];
  /** As `allow-exec` in a file. Default: as with `keys`. */
  readonly allowExec?: boolean | readonly string[];
  /** As `allow-copy` in a file. Default: as with `keys`. */
  readonly allowCopy?: boolean | string;
}

/** A forward to be added. */
export interface ForwardRequest {
  /** `outgoing`: as `-o`; `incoming`: as `-i`. */
  readonly direction: 'outgoing' | 'incoming';
  /** `SERVICE:…`, such as `-o` and `-i` take. */
  readonly spec: string;
  /** The label of its channel; need not be there where there is one channel only. */
  readonly channel?: string | undefined;
}

/** How a channel or a forward goes. */
export interface RemovalRequest {
  /** `drain`: when its streams have ended; `now`: they are reset. Default `drain`. */
  readonly mode?: 'drain' | 'now';
  /** Ends the waiting; it goes all the same. */
  readonly signal?: AbortSignal;
}

/** Which events. */
export interface EventsRequest {
  /** How many of those that were are told first. Default: all that are known still, 500 at most. */
  readonly replay?: number;
  /** Whether to go on with those to come. Default true. */
  readonly follow?: boolean;
  /** Ends the events, in order. */
  readonly signal?: AbortSignal;
}

/** A command to be run, besides its words. */
export interface CommandRequest extends Omit<ExecRequest, 'argv'> {
  /** The label of the channel. Default: the only one. */
  readonly channel?: string | undefined;
}

/** What is waited for. */
export interface WaitRequest {
  /** That the peer has to offer; without it, the session will do. */
  readonly service?: string | undefined;
  /** The label of the channel. Default: any. */
  readonly channel?: string | undefined;
  /** Default 60. */
  readonly timeoutS?: number;
  /** Ends the waiting. */
  readonly signal?: AbortSignal;
}
