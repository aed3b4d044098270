/** Steers a running vproxy through its control socket. Loads node:http, and nothing of the proxy. */
import type http from 'node:http';
import { type ErrorCode, toVproxyError, VproxyError } from '../../errors.js';
import type { LogLevel } from '../../events.js';
import { type ExecCall, openError, runCommand } from '../../exec/exec-call.js';
import { EXEC_SERVICE, type ExecRequest } from '../../exec/exec-messages.js';
import type {
  BootStatus,
  ChannelStatus,
  ControlEvent,
  ControlStatus,
  EgressStatus,
  EgressTest,
  ForwardStatus,
  MachineInfo,
  PingAnswer,
  PortStatus,
  ReloadAnswer,
  ServiceStatus,
  StreamWithRates,
  UpgradeAnswer,
} from '../../status/types.js';
import { pause, systemClock } from '../../util/clock.js';
import { connectService, type ServiceStream } from './connect-service.js';
import { requestText, requestValue, responseTo } from './control-request.js';
import { requestError } from './plain-http.js';
import type { ChannelRequest, EgressTestRequest, ForwardRequest } from './requests.js';

/**
 * The process whose control socket is at `path`. Nothing is sent until a method is called; each call has a connection of
 * its own, so that nothing has to be closed.
 */
export function connectControl(path: string): ControlClient {
  return new ControlClient(path);
}

/**
 * The client of a running process: `connectControl` makes one. Each method rejects with a `VproxyError`: with the code and the
 * message of the answer, with `control-unavailable` where no process answers, or with `denied` where the socket is
 * another user's.
 */
export class ControlClient {
  /** The path of the control socket. */
  readonly path: string;

  /** See {@link connectControl}. */
  constructor(path: string) {
    this.path = path;
  }

  /** The process, its channels, and the number of forwards and streams. */
  status(signal?: AbortSignal): Promise<ControlStatus> {
    return requestValue(this.path, 'GET /v1/status', { signal });
  }

  /** Every channel. */
  channels(): Promise<ChannelStatus[]> {
    return requestValue(this.path, 'GET /v1/channels', {});
  }

  /** Rejects with `not-found`. */
  channel(label: string): Promise<ChannelStatus> {
    return requestValue(this.path, 'GET /v1/channels/{label}', { params: { label } });
  }

  /** Rejects with `bad-argument` or `address-…` codes, and nothing has changed then. */
  addChannel(body: ChannelRequest): Promise<ChannelStatus> {
    return requestValue(this.path, 'POST /v1/channels', { body });
  }

  /** Removes a channel with its forwards; resolved when it is gone. Rejects with `not-found`. */
  removeChannel(label: string, { mode = 'drain', signal }: RemovalRequest = {}): Promise<void> {
    return requestValue(this.path, 'DELETE /v1/channels/{label}', { params: { label }, query: { mode }, signal });
  }

  /** Every forward of every channel. */
  forwards(signal?: AbortSignal): Promise<ForwardStatus[]> {
    return requestValue(this.path, 'GET /v1/forwards', { signal });
  }

  /** Rejects with `bad-argument`, `not-found` for the channel, or `address-…` codes, and nothing has changed then. */
  addForward(body: ForwardRequest): Promise<ForwardStatus> {
    return requestValue(this.path, 'POST /v1/forwards', { body });
  }

  /** Removes a forward by its id; resolved when it is gone. Rejects with `not-found`. */
  removeForward(id: string, { mode = 'drain', signal }: RemovalRequest = {}): Promise<void> {
    return requestValue(this.path, 'DELETE /v1/forwards/{id}', { params: { id }, query: { mode }, signal });
  }

  /** What is offered on each channel, here and by its peer. */
  services(): Promise<ServiceStatus[]> {
    return requestValue(this.path, 'GET /v1/services', {});
  }

  /** The egresses of each channel, with the rules that are in force there. */
  egress(signal?: AbortSignal): Promise<EgressStatus[]> {
    return requestValue(this.path, 'GET /v1/egress', { signal });
  }

  /**
   * What would become of a connection by an egress, without connecting. Rejects with `bad-argument` for a destination that is
   * none, and with `not-found`.
   */
  testEgress(body: EgressTestRequest): Promise<EgressTest> {
    return requestValue(this.path, 'POST /v1/egress/test', { body });
  }

  /** The ports that are announced on each channel, here and by its peer. */
  ports(): Promise<PortStatus[]> {
    return requestValue(this.path, 'GET /v1/ports', {});
  }

  /** Every stream, with its rates. Takes 200 ms where nobody has asked within the last 3 s. */
  streams(signal?: AbortSignal): Promise<StreamWithRates[]> {
    return requestValue(this.path, 'GET /v1/streams', { signal });
  }

  /** Resets a stream. Rejects with `not-found`. */
  closeStream(channel: string, id: number): Promise<void> {
    return requestValue(this.path, 'DELETE /v1/streams/{channel}/{id}', { params: { channel, id } });
  }

  /**
   * What happened, and what happens, one event after the other. Ends in order when `signal` is aborted, or, without
   * `follow`, when all is told; rejects with `control-unavailable` where the process ends otherwise.
   */
  async *events({ replay, follow, signal }: EventsRequest = {}): AsyncGenerator<ControlEvent, void> {
    try {
      const response = await responseTo(this.path, 'GET /v1/events', { query: { replay, follow }, signal });
      yield* readEvents<ControlEvent>(this.path, response);
    } catch (error) {
      if (signal?.aborted !== true) throw error;
    }
  }

  /** The round trip through the peer of a channel, which need not be named where there is one only. */
  ping({ channel, signal }: MachineRequest = {}): Promise<PingAnswer> {
    return requestValue(this.path, 'POST /v1/ping', { body: { channel }, signal });
  }

  /** Resolved as soon as there is a session, and the service in it. Rejects with `no-session` after `timeoutS`, or `not-found`. */
  waitFor({ service, channel, timeoutS, signal }: WaitRequest = {}): Promise<ChannelStatus> {
    return requestValue(this.path, 'GET /v1/wait', { query: { service, channel, timeout: timeoutS }, signal });
  }

  /**
   * What the machine of a peer says of itself, and by how much its clock differs. Rejects with `unknown-service` where the peer
   * tells nothing, and with `protocol-error` where its answer is not valid.
   */
  info({ channel, signal }: MachineRequest = {}): Promise<MachineInfo> {
    return requestValue(this.path, 'GET /v1/info', { query: { channel }, signal });
  }

  /** How far the machine of a peer is with booting. Rejects as `info` does. */
  boot({ channel, signal }: MachineRequest = {}): Promise<BootStatus> {
    return requestValue(this.path, 'GET /v1/boot', { query: { channel }, signal });
  }

  /**
   * Resolved as soon as the machine of a peer is `booted` or `failed`; it is asked once a second, and may have no session yet, or
   * lose one. Rejects with `not-booted` or `no-session` after `timeoutS`, and as `info` does.
   */
  async waitForBoot({ channel, timeoutS = WAIT_S, onBooting, signal }: BootRequest = {}): Promise<BootStatus> {
    const deadlineMs = systemClock.now() + timeoutS * 1000;
    const leftMs = (): number => Math.max(0, deadlineMs - systemClock.now());
    // The last look, which may be the only one, has some time, too.
    const late = AbortSignal.timeout(Math.max(timeoutS * 1000, BOOT_LOOK_MS));
    const anySignal = signal === undefined ? late : AbortSignal.any([late, signal]);
    let remarks: readonly string[] = [];
    for (;;) {
      await this.waitFor({ channel, timeoutS: Math.ceil(leftMs()) / 1000, ...(signal && { signal }) });
      try {
        const status = await this.boot({ channel, signal: anySignal });
        if (status.verdict !== 'booting') return status;
        remarks = status.remarks;
        onBooting?.(status);
      } catch (error) {
        if (!late.aborted && !isSessionLost(error)) throw error;
        if (remarks.length === 0) remarks = [late.aborted ? 'it did not answer' : toVproxyError(error).message];
      }
      if (leftMs() <= BOOT_LOOK_MS || signal?.aborted === true)
        throw new VproxyError('not-booted', `${channel ?? 'the machine'} is not booted yet: ${remarks.join('; ')}`);
      await pause(systemClock, BOOT_LOOK_MS, signal);
    }
  }

  /** Sets the least important level that the process logs. */
  logLevel(level: LogLevel): Promise<{
    /** What it logs from now on. */
    readonly level: LogLevel;
  }> {
    return requestValue(this.path, 'PUT /v1/log-level', { body: { level } });
  }

  /** What is in force, in the form of a configuration file. */
  config(): Promise<unknown> {
    return requestValue(this.path, 'GET /v1/config', {});
  }

  /** Reads the configuration file again. Rejects with the code of what is wrong with it; nothing has changed then. */
  reload(): Promise<ReloadAnswer> {
    return requestValue(this.path, 'POST /v1/reload', {});
  }

  /**
   * Has a successor go on with all that the process has: `program`, or the program that it was started as. Resolved when it
   * does. Rejects with `upgrade-failed`, and the process goes on then: at the latest `waitS` seconds (default 10) after
   * the successor was started, where something has not ended by then that cannot be handed over. With `force` streams
   * that only a guest can end are reset then.
   */
  upgrade({
    program,
    waitS,
    force,
  }: {
    readonly program?: string | undefined;
    readonly waitS?: number | undefined;
    readonly force?: boolean | undefined;
  } = {}): Promise<UpgradeAnswer> {
    return requestValue(this.path, 'POST /v1/upgrade', { body: { program, waitS, force } });
  }

  /** Lets the process end when its streams have, at the latest after `timeoutS` (default 30). Resolved at once. */
  drain({ timeoutS }: { readonly timeoutS?: number | undefined } = {}): Promise<void> {
    return requestValue(this.path, 'POST /v1/drain', { body: { timeoutS } });
  }

  /** Lets the process end. Resolved at once. */
  stop(): Promise<void> {
    return requestValue(this.path, 'POST /v1/stop', {});
  }

  /** Figures in the text format of Prometheus. */
  metrics(): Promise<string> {
    return requestText(this.path, 'GET /metrics', {});
  }

  /**
   * A stream to a service of the peer, as a `Duplex` with `allowHalfOpen`: its end is the end of that direction, to
   * destroy it gives the stream up. Rejects with the code of the failure, such as `unknown-service` or `no-session`.
   */
  connect(service: string, { channel }: { readonly channel?: string | undefined } = {}): Promise<ServiceStream> {
    return connectService(this.path, service, channel);
  }

  /**
   * Runs a command at the peer: its first word, found by its path or in `PATH` there, with the others as arguments; no words
   * are the login shell. Resolved when the peer has the call. Rejects with `command-denied` where the peer lets no commands be
   * run, and with `exec-unavailable` where the peer has no such service.
   *
   *     const call = await connectControl(path).exec(['uname', '-r'], { hasInput: false });
   *     const { status, stdout } = await collectOutput(call);
   */
  async exec(argv: readonly string[], { channel, ...request }: CommandRequest = {}): Promise<ExecCall> {
    let stream: ServiceStream;
    try {
      stream = await connectService(this.path, EXEC_SERVICE, channel, { isAttached: true });
    } catch (error) {
      throw openError(error);
    }
    return runCommand(stream, { argv, ...request });
  }
}

// What the methods take, as plain values.

/** How a channel or a forward goes. */
export interface RemovalRequest {
  /** `drain`: when its streams have ended; `now`: they are reset. Default `drain`. */
  readonly mode?: 'drain' | 'now';
  /** Ends the waiting; it goes all the same. */
  readonly signal?: AbortSignal;
}

/** Which events. */
export interface EventsRequest {
  /** The number of past events that come first. Default: all that are kept, at most 500. */
  readonly replay?: number;
  /** Whether to go on with those that happen. Default true. */
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
  /** A service that the peer has to offer. Default: the session is enough. */
  readonly service?: string | undefined;
  /** The label of the channel. Default: any. */
  readonly channel?: string | undefined;
  /** Default 60. */
  readonly timeoutS?: number;
  /** Ends the waiting. */
  readonly signal?: AbortSignal;
}

/** Whose machine is asked. */
export interface MachineRequest {
  /** The label of the channel. Default: the only one. */
  readonly channel?: string | undefined;
  /** Gives the question up. */
  readonly signal?: AbortSignal;
}

/** Which machine is waited for. */
export interface BootRequest extends MachineRequest {
  /** Default 60. */
  readonly timeoutS?: number;
  /** Called with each answer that says that it is still booting. */
  readonly onBooting?: (status: BootStatus) => void;
}

/** How long is waited by default, in seconds. */
const WAIT_S = 60;

/** Between two looks at a machine that is booting, in milliseconds. */
const BOOT_LOOK_MS = 1000;

/** Codes with which a question ends when the session does, or the peer is too slow: another one may be answered. */
const LOST: ReadonlySet<string> = new Set<ErrorCode>([
  ...([
    'no-session',
    'peer-restarted',
    'shutdown',
    'desync',
    'channel-closed',
    'channel-silent',
    'channel-failed',
  ] as const),
  ...(['channel-displaced', 'resume-expired', 'resume-refused', 'stalled', 'open-timeout', 'cancelled'] as const),
]);

const isSessionLost = (error: unknown): boolean => error instanceof VproxyError && LOST.has(error.code);

/** The longest line, in characters; no event is nearly as long. */
const MAX_LINE_LENGTH = 4 * 2 ** 20;

/**
 * The values of newline-delimited JSON, up to the end of the response, which is destroyed when the caller stops. Rejects with
 * `control-unavailable` where it is cut off.
 */
async function* readEvents<T>(socketPath: string, response: http.IncomingMessage): AsyncGenerator<T, void> {
  response.setEncoding('utf8');
  let rest = '';
  try {
    for await (const piece of response) {
      const lines = (rest + String(piece)).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) if (line !== '') yield JSON.parse(line) as T;
      if (rest.length > MAX_LINE_LENGTH) throw new VproxyError('control-unavailable', 'an event has no end');
    }
  } catch (error) {
    throw requestError(socketPath, error);
  } finally {
    response.destroy();
  }
}
