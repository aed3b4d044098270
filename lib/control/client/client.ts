/** Controls a running vproxy through its control socket. Loads nothing of the proxy. */
import type http from 'node:http';
import { VproxyError } from '../../errors.js';
import type { LogLevel } from '../../events.js';
import type { CopyOutcome } from '../../services/copy/copy-call.js';
import { type ExecCall, openError, runCommand } from '../../services/exec/exec-call.js';
import { type Detachment, EXEC_SERVICE, encodeStart } from '../../services/exec/exec-messages.js';
import type { JobPiece, StartedJob } from '../../services/exec/jobs/job-messages.js';
import type { JobWriter, JoinedJob } from '../../services/exec/jobs/job-writer.js';
import type {
  BootStatus,
  ChannelStatus,
  ControlEvent,
  ControlStatus,
  EgressQuestion,
  EgressStats,
  EgressStatus,
  EgressTest,
  ExecResult,
  ForwardStatus,
  FrozenAnswer,
  JobOfChannel,
  MachineInfo,
  PingAnswer,
  PortWithUrl,
  ReloadAnswer,
  ServiceStatus,
  StreamWithRates,
  ThawedAnswer,
  UpgradeAnswer,
} from '../../status/types.js';
import { sleep, systemClock } from '../../util/clock.js';
import { onAbort } from '../../util/concurrency.js';
import type {
  AttachRequest,
  BootRequest,
  CommandRequest,
  CopyRequest,
  EventsRequest,
  FreezeRequest,
  HandOverRequest,
  JobRequest,
  JoinRequest,
  MachineRequest,
  RemovalRequest,
  StopRequest,
  StreamRequest,
  WaitRequest,
} from './client-options.js';
import { abortable, connectService, ServiceStream } from './connect-service.js';
import { openAnswer, requestText, requestValue } from './control-request.js';
import { isCutOff, requestError } from './plain-http.js';
import type {
  ChannelRequest,
  EgressAnswerRequest,
  EgressEntriesRequest,
  EgressTestRequest,
  ForwardRequest,
} from './requests.js';
import { isSessionLost, waitForBoot } from './wait-for-boot.js';

/**
 * Returns a client for the process whose control socket is at `path`. Sends nothing until a method is called; each call
 * uses its own connection, so there is nothing to close.
 */
export function connectControl(path: string): ControlClient {
  return new ControlClient(path);
}

/**
 * A client of a running process; see `connectControl`. Each method rejects with a `VproxyError`: with the code and message
 * of the answer, with `control-unavailable` if no process answers, or with `denied` if the socket belongs to another
 * user.
 */
export class ControlClient {
  /** The path of the control socket. */
  readonly path: string;

  /** See {@link connectControl}. */
  constructor(path: string) {
    this.path = path;
  }

  /** The status of the process and its channels, and the number of forwards and streams. */
  status(signal?: AbortSignal): Promise<ControlStatus> {
    return requestValue(this.path, 'GET /v1/status', { signal });
  }

  /** All channels. */
  channels(): Promise<ChannelStatus[]> {
    return requestValue(this.path, 'GET /v1/channels', {});
  }

  /** One channel. Rejects with `not-found`. */
  channel(label: string): Promise<ChannelStatus> {
    return requestValue(this.path, 'GET /v1/channels/{label}', { params: { label } });
  }

  /** Adds a channel. Rejects with `bad-argument` or `address-…` codes, without any change. */
  addChannel(body: ChannelRequest): Promise<ChannelStatus> {
    return requestValue(this.path, 'POST /v1/channels', { body });
  }

  /** Removes a channel and its forwards; resolves once it is removed. Rejects with `not-found`. */
  removeChannel(label: string, { mode = 'drain', signal }: RemovalRequest = {}): Promise<void> {
    return requestValue(this.path, 'DELETE /v1/channels/{label}', { params: { label }, query: { mode }, signal });
  }

  /** All forwards of all channels. */
  forwards(signal?: AbortSignal): Promise<ForwardStatus[]> {
    return requestValue(this.path, 'GET /v1/forwards', { signal });
  }

  /** Adds a forward. Rejects with `bad-argument`, `not-found` for the channel, or `address-…` codes, without any change. */
  addForward(body: ForwardRequest): Promise<ForwardStatus> {
    return requestValue(this.path, 'POST /v1/forwards', { body });
  }

  /** Removes a forward by its id; resolves once it is removed. Rejects with `not-found`. */
  removeForward(id: string, { mode = 'drain', signal }: RemovalRequest = {}): Promise<void> {
    return requestValue(this.path, 'DELETE /v1/forwards/{id}', { params: { id }, query: { mode }, signal });
  }

  /** The services offered on each channel, by this side and by its peer. */
  services(): Promise<ServiceStatus[]> {
    return requestValue(this.path, 'GET /v1/services', {});
  }

  /** The egresses of each channel, with the rules in effect. */
  egress(signal?: AbortSignal): Promise<EgressStatus[]> {
    return requestValue(this.path, 'GET /v1/egress', { signal });
  }

  /**
   * Tests whether an egress would allow a connection, without connecting. Rejects with `bad-argument` for an invalid
   * destination, and with `not-found`. `signal` cancels it.
   */
  testEgress(body: EgressTestRequest, signal?: AbortSignal): Promise<EgressTest> {
    return requestValue(this.path, 'POST /v1/egress/test', { body, signal });
  }

  /** Adds entries to what an egress allows, for a while. Rejects with `bad-argument` and `not-found`. */
  allowEgress(body: EgressEntriesRequest): Promise<EgressStatus> {
    return requestValue(this.path, 'POST /v1/egress/allow', { body });
  }

  /** What the egresses did in the last hour, by destination. */
  egressStats(): Promise<EgressStats[]> {
    return requestValue(this.path, 'GET /v1/egress/stats', {});
  }

  /** The destinations that no entry names, and that wait for an answer. */
  egressQuestions(signal?: AbortSignal): Promise<EgressQuestion[]> {
    return requestValue(this.path, 'GET /v1/egress/questions', { signal });
  }

  /** Answers a question. Rejects with `bad-argument`, and with `not-found` if it is over. */
  answerEgress(body: EgressAnswerRequest): Promise<EgressStatus> {
    return requestValue(this.path, 'POST /v1/egress/answer', { body });
  }

  /** Denies everything, and resets the connections of an egress. Rejects with `not-found`. */
  blockEgress(name: string, channel?: string): Promise<EgressStatus> {
    return requestValue(this.path, 'POST /v1/egress/block', { body: { name, channel } });
  }

  /** Undoes `allowEgress` and `blockEgress`. Rejects with `not-found`. */
  resetEgress(name: string, channel?: string): Promise<EgressStatus> {
    return requestValue(this.path, 'POST /v1/egress/reset', { body: { name, channel } });
  }

  /** The ports announced on each channel, by this side and by its peer. */
  ports(): Promise<PortWithUrl[]> {
    return requestValue(this.path, 'GET /v1/ports', {});
  }

  /** All streams, with their rates. Takes 200 ms unless a client asked within the last 3 s. */
  streams(signal?: AbortSignal): Promise<StreamWithRates[]> {
    return requestValue(this.path, 'GET /v1/streams', { signal });
  }

  /** Resets a stream. Rejects with `not-found`. */
  closeStream(channel: string, id: number): Promise<void> {
    return requestValue(this.path, 'DELETE /v1/streams/{channel}/{id}', { params: { channel, id } });
  }

  /**
   * Yields past and new events, in order. Ends when `signal` is aborted or, without `follow`, after the past events;
   * rejects with `control-unavailable` if the process exits.
   */
  async *events({ replay, follow, signal }: EventsRequest = {}): AsyncGenerator<ControlEvent, void> {
    try {
      const response = await openAnswer(this.path, 'GET /v1/events', { query: { replay, follow }, signal });
      yield* readEvents<ControlEvent>(this.path, response);
    } catch (error) {
      if (signal?.aborted !== true) throw error;
    }
  }

  /** Measures the round trip to the peer of a channel; `channel` may be omitted if there is only one. */
  ping({ channel, signal }: MachineRequest = {}): Promise<PingAnswer> {
    return requestValue(this.path, 'POST /v1/ping', { body: { channel }, signal });
  }

  /** Waits for a session, and for a service in it. Rejects with `no-session` after `timeoutS`, or with `not-found`. */
  waitFor({ service, channel, timeoutS, signal }: WaitRequest = {}): Promise<ChannelStatus> {
    return requestValue(this.path, 'GET /v1/wait', { query: { service, channel, timeout: timeoutS }, signal });
  }

  /**
   * Information that the peer's machine reports about itself, and its clock offset. Rejects with `unknown-service` if the
   * peer does not offer it, and with `protocol-error` if its answer is invalid.
   */
  info({ channel, signal }: MachineRequest = {}): Promise<MachineInfo> {
    return requestValue(this.path, 'GET /v1/info', { query: { channel }, signal });
  }

  /** The boot progress of the peer's machine. Rejects as `info` does. */
  boot({ channel, signal }: MachineRequest = {}): Promise<BootStatus> {
    return requestValue(this.path, 'GET /v1/boot', { query: { channel }, signal });
  }

  /**
   * Waits until the peer's machine is `booted` or `failed`. Polls once a second; the session may not exist yet, or be lost
   * meanwhile. Rejects with `not-booted` or `no-session` after `timeoutS`, and as `info` does.
   */
  waitForBoot(request: BootRequest = {}): Promise<BootStatus> {
    return waitForBoot(this, request);
  }

  /**
   * Freezes file systems of the peer's machine: those mounted at `paths`, or all that can be frozen. It thaws by itself after
   * `forS` seconds (1 to 60, default 10). Rejects with `freeze-failed`, and with `unknown-service` if the peer does not allow it.
   */
  freeze({ channel, paths, forS, signal }: FreezeRequest = {}): Promise<FrozenAnswer> {
    return requestValue(this.path, 'POST /v1/freeze', { body: { channel, paths, forS }, signal });
  }

  /** Thaws what {@link freeze} froze. Rejects with `not-found` if nothing was. */
  thaw({ channel, signal }: MachineRequest = {}): Promise<ThawedAnswer> {
    return requestValue(this.path, 'POST /v1/thaw', { body: { channel }, signal });
  }

  /** Sets the minimum level that the process logs. */
  logLevel(level: LogLevel): Promise<{
    /** The new level. */
    readonly level: LogLevel;
  }> {
    return requestValue(this.path, 'PUT /v1/log-level', { body: { level } });
  }

  /** The configuration in effect, in the form of a configuration file. */
  config(): Promise<unknown> {
    return requestValue(this.path, 'GET /v1/config', {});
  }

  /**
   * Reloads the configuration file. Rejects with the code of its first error, without any change. `signal` stops the waiting,
   * not the reload.
   */
  reload(signal?: AbortSignal): Promise<ReloadAnswer> {
    return requestValue(this.path, 'POST /v1/reload', { signal });
  }

  /**
   * Hands everything over to a successor. Resolves when it has taken over; on `upgrade-failed` the process continues.
   */
  upgrade({ program, waitS, force, signal }: HandOverRequest = {}): Promise<UpgradeAnswer> {
    return requestValue(this.path, 'POST /v1/upgrade', { body: { program, waitS, force }, signal });
  }

  /** Stops the process once its streams have ended, at the latest after `timeoutS` (default 30). Resolves at once. */
  drain({ timeoutS }: { readonly timeoutS?: number | undefined } = {}): Promise<void> {
    return requestValue(this.path, 'POST /v1/drain', { body: { timeoutS } });
  }

  /** Stops the process. Resolves at once. */
  stop(): Promise<void> {
    return requestValue(this.path, 'POST /v1/stop', {});
  }

  /** Metrics in the text format of Prometheus. */
  metrics(): Promise<string> {
    return requestText(this.path, 'GET /metrics', {});
  }

  /**
   * Opens a stream to a service of the peer, as a `Duplex` with `allowHalfOpen`: ending it half-closes, destroying it
   * resets the stream. Rejects with the code of the failure, such as `unknown-service` or `no-session`.
   */
  async connect(service: string, { channel, signal }: StreamRequest = {}): Promise<ServiceStream> {
    return abortable(new ServiceStream(await connectService(this.path, service, channel, { signal })), signal);
  }

  /**
   * Runs a command on the peer: `argv[0]` is a path or is looked up in `PATH` there; an empty `argv` runs the login shell.
   * Resolves when the peer has accepted the call. Rejects with `command-denied` if the peer does not allow commands, and
   * with `exec-unavailable` if the service cannot be reached. An invalid request rejects with `bad-argument`, and sends nothing.
   *
   *     const call = await connectControl(path).exec(['uname', '-r'], { hasInput: false });
   *     const { status, stdout } = await collectOutput(call);
   */
  async exec(argv: readonly string[], { channel, signal, ...request }: CommandRequest = {}): Promise<ExecCall> {
    const start = { argv, ...request };
    encodeStart(start); // throws before a stream is opened
    const call = runCommand(await this.#openExec({ channel, signal }), start);
    // Also once the command has ended, while its outputs are being read.
    const forget = onAbort(signal, () => call.cancel());
    void call.result.then(forget, forget);
    return call;
  }

  /**
   * Starts a command on the peer that outlives its caller; resolves when it runs. Its two outputs are one. Without a `terminal` it
   * has no input, unless `hasInput` is true. Rejects as `exec` does, with the reason why it could not be run, and with `job-exists`.
   */
  async startJob(
    argv: readonly string[],
    { channel, signal, tag, keepBytes, unique, ...request }: CommandRequest & Detachment = {},
  ): Promise<StartedJob> {
    const { startJob } = await jobCalls();
    return startJob(() => this.#openExec({ channel, signal }), {
      argv,
      ...request,
      detach: { tag, keepBytes, unique },
    });
  }

  /**
   * The jobs of a channel, by default of all channels whose peer allows commands: the running ones, and for an hour those
   * that have ended. Rejects as `exec` does, and with `stalled`; for all channels only if it fails on each.
   */
  async jobs({ channel, signal }: JobRequest = {}): Promise<JobOfChannel[]> {
    if (channel !== undefined) {
      const { listJobs } = await jobCalls();
      return (await listJobs(await this.#openExec({ channel, signal }))).map((job) => ({ channel, ...job }));
    }
    const offers = (await this.services()).filter((one) => one.service === EXEC_SERVICE && one.offeredBy === 'peer');
    const lists = await Promise.allSettled(offers.map((offer) => this.jobs({ channel: offer.channel, signal })));
    const failed = lists.find((list) => list.status === 'rejected');
    const isCancelled = signal?.aborted === true;
    if (failed !== undefined && (isCancelled || lists.every((list) => list.status === 'rejected'))) throw failed.reason;
    return lists.flatMap((list) => (list.status === 'fulfilled' ? list.value : []));
  }

  /**
   * Yields the output of a job, by default all that is kept, and then as it is written; the last piece says how the job ended.
   * When the channel or the process is lost, it continues where it was once they are back. Ends when `signal` is aborted. Rejects
   * with `not-found`.
   */
  attachJob(id: string, request: AttachRequest = {}): AsyncGenerator<JobPiece, void> {
    return this.#readJob(id, request, null);
  }

  /**
   * Attaches to a job as `attachJob` does, and becomes its writer; read the `output`, which does everything. Its generator rejects
   * with `input-taken` if another caller writes to the job, or takes over later, and with `bad-argument` if the job has no input.
   */
  async joinJob(id: string, { steal, size, isWhole, onJoined, ...request }: JoinRequest = {}): Promise<JoinedJob> {
    const { JobWriter } = await import('../../services/exec/jobs/job-writer.js');
    return new JobWriter({ steal, size, isWhole, onJoined }, (writer) => this.#readJob(id, request, writer));
  }

  async *#readJob(
    id: string,
    { channel, signal, onLost, ...place }: AttachRequest,
    writer: JobWriter | null,
  ): AsyncGenerator<JobPiece, void> {
    const { readJob } = await jobCalls();
    let wasThere = false;
    const open = async (): Promise<ServiceStream> => {
      const stream = await this.#attach({ channel, signal }, true);
      wasThere = true;
      return stream;
    };
    const retry = async (error: VproxyError): Promise<void> => {
      wasThere ||= isCutOff(error);
      if (!wasThere) throw openError(error);
      if (!isSessionLost(error) && error.code !== 'control-unavailable') throw error;
      if (signal?.aborted === true) throw error;
      onLost?.(error);
      await sleep(systemClock, AGAIN_MS, signal);
    };
    try {
      yield* readJob(open, id, place, retry, writer);
    } catch (error) {
      if (signal?.aborted !== true) throw error;
    } finally {
      writer?.stdin.close();
    }
  }

  /** Ends a job with `SIGTERM`, then `SIGKILL`; resolves when it has ended. Rejects with `not-found`. */
  async stopJob(id: string, { channel, signal, killAfterMs }: StopRequest = {}): Promise<ExecResult> {
    const { stopJob } = await jobCalls();
    return stopJob(() => this.#openExec({ channel, signal }), id, killAfterMs);
  }

  /**
   * Copies files and folders of this machine to the peer's; a relative `target` begins in the home of the peer's user. Everything
   * appears at once, when all of it is there. Rejects with `denied` if the peer does not allow copies, `copy-failed`, `copy-refused`,
   * `cancelled`, and the code of a lost channel.
   */
  copyTo(sources: string | readonly string[], target: string, options?: CopyRequest): Promise<CopyOutcome> {
    return this.#copy('put', sources, target, options);
  }

  /** Copies files and folders of the peer's machine to this one, likewise. */
  copyFrom(sources: string | readonly string[], target: string, options?: CopyRequest): Promise<CopyOutcome> {
    return this.#copy('get', sources, target, options);
  }

  async #copy(
    direction: 'put' | 'get',
    sources: string | readonly string[],
    target: string,
    { channel, ...options }: CopyRequest = {},
  ): Promise<CopyOutcome> {
    const { copyFiles } = await import('../../services/copy/copy-call.js');
    const { signal } = options;
    // A signal does not reset it: a copy that is cancelled removes its part.
    const open = async () => new ServiceStream(await connectService(this.path, 'copy', channel, { signal }));
    return copyFiles(direction, typeof sources === 'string' ? [sources] : sources, target, open, options);
  }

  async #openExec(request: StreamRequest): Promise<ServiceStream> {
    return this.#attach(request).catch((error: unknown) => {
      throw openError(error);
    });
  }

  async #attach({ channel, signal }: StreamRequest, isReopened = false): Promise<ServiceStream> {
    const options = { isAttached: true, isReopened, signal };
    return abortable(new ServiceStream(await connectService(this.path, EXEC_SERVICE, channel, options)), signal);
  }
}

/** Loaded when needed: most programs use no jobs. */
const jobCalls = () => import('../../services/exec/jobs/job-calls.js');

/** The interval between attempts to read a job again. */
const AGAIN_MS = 1000;

/** The longest line, in characters; real events are far shorter. */
const MAX_LINE_LENGTH = 4 * 2 ** 20;

/**
 * Yields the values of newline-delimited JSON. Destroys the response when the caller stops. Rejects with
 * `control-unavailable` if the response is cut off.
 */
async function* readEvents<T>(socketPath: string, response: http.IncomingMessage): AsyncGenerator<T, void> {
  response.setEncoding('utf8');
  let rest = '';
  try {
    for await (const piece of response) {
      const lines = (rest + String(piece)).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) if (line !== '') yield JSON.parse(line) as T;
      if (rest.length > MAX_LINE_LENGTH)
        throw new VproxyError('control-unavailable', `event too long (max ${MAX_LINE_LENGTH} characters)`);
    }
  } catch (error) {
    throw requestError(socketPath, error);
  } finally {
    response.destroy();
  }
}
