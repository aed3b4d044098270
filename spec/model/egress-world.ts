/** The egresses and the origin of a host, and its guest, in this process: all that happens, as lines. */
import { writeFileSync } from 'node:fs';
import net from 'node:net';
import { setImmediate } from 'node:timers/promises';
import { LOG_EVENTS, type LogEvent, type LogEventName } from '../../lib/events.js';
import { EgressDialer } from '../../lib/forward/egress/dial.js';
import { EgressTarget } from '../../lib/forward/egress/egress-target.js';
import type { Target, TargetContext } from '../../lib/forward/endpoint-kind.js';
import { targetKindOf } from '../../lib/forward/endpoint-kinds.js';
import { ForwardLog } from '../../lib/forward/forward-log.js';
import { RedirectedAnswer, redirectedRequest } from '../../lib/forward/redirect/redirected.js';
import type { ResolvedName } from '../../lib/forward/redirect/resolved-names.js';
import { parseForwardSpec } from '../../lib/forward/spec.js';
import { type EgressChanges, RunningEgresses } from '../../lib/proxy/egress/grants.js';
import { MuxStream } from '../../lib/session/mux-stream.js';
import type { SessionStream } from '../../lib/session/stream.js';
import { ChangeHere } from '../helpers/change-here.js';
import { rulesOf } from '../helpers/dns.js';
import { SessionPair } from '../helpers/session-pair.js';
import { Deadline, eventually, ManualClock, ProcessClock } from '../helpers/time.js';
import { EGRESSES, type Egress, FIRST_ADDRESSES, FIRST_RULES, type Happenings, placeOf } from './egress-model.js';
import { FIRST_ORIGIN, framingOf, type GuestRequest, type OriginRules, rawPathOf } from './origin-model.js';

/** The events that tell decisions, and what is compared of them. */
const EVENTS: Partial<Record<LogEventName, string>> = {
  'egress-opened': 'egress host port redirectedFrom address rule',
  egress: 'egress host port redirectedFrom address rule code',
  'egress-refused': 'egress destination redirectedFrom reason',
  'egress-asked': 'egress host port',
  'egress-answered': 'egress host port answer connections',
  'egress-changed': 'egress change entries connections',
  'origin-request': 'method path status',
  'origin-refused': 'method path reason',
};

function textOf(value: LogEvent['fields'][string] = null): string {
  if (value === null) return '-';
  return typeof value === 'object' ? [...value].sort().join() : String(value);
}

/** The servers of a test. */
export interface Servers {
  readonly echoPort: number;
  readonly originPort: number;
  readonly keyFile: string;
  /** Hears of what reaches the origin server. */
  onSaid: (line: string) => void;
}

/** A process of the host, until another takes over. */
class HostProcess {
  readonly here: ChangeHere;
  readonly clock: ProcessClock;
  readonly egresses: RunningEgresses;
  readonly targets = new Map<string, Target>();
  readonly #world: EgressWorld;
  readonly #paused: Target[] = [];

  constructor(world: EgressWorld, here: ChangeHere, changes?: EgressChanges, names?: readonly ResolvedName[]) {
    this.here = here;
    this.#world = world;
    this.clock = new ProcessClock(world.clock);
    const onRevoked = (egress: string, rules: ReadonlySet<string> | null) =>
      [...this.targets.values()].reduce((sum, target) => sum + (target.revoke?.(egress, rules) ?? 0), 0);
    const options = { clock: this.clock, log: world.log, forwards: () => [], onRevoked };
    this.egresses = new RunningEgresses('vm1', world.rules, options, changes, names);
    for (const name of EGRESSES) this.targets.set(name, this.#createEgress(name));
    this.offerOrigin();
  }

  #context(service: string): TargetContext {
    const { clock, egresses } = this;
    const options = { clock, log: this.#world.log };
    return {
      ...{ endpoint: service, name: service, service, clock, maxStreams: 1024, preamble: null },
      ...{ egress: (name) => egresses.egresses.get(name) ?? null, names: egresses.names, onClosed: () => undefined },
      log: new ForwardLog({ direction: 'incoming', service }, options, () => service),
    };
  }

  #createEgress(name: string): EgressTarget {
    const context = this.#context(name);
    const dialer = new EgressDialer({
      ...{ name, rules: () => context.egress(name), clock: this.clock, isOwn: () => false },
      lookup: (host) => Promise.resolve([this.#world.leads.get(host) ?? []].flat()),
      connect: (address, port) => this.#world.connectTo(address, port),
    });
    return new EgressTarget(name, dialer, context);
  }

  /** No other request begins at the target before. */
  offerOrigin(): void {
    const { endpoint } = parseForwardSpec('incoming', this.#world.originText);
    const before = this.targets.get('api');
    before?.pause?.();
    if (before !== undefined) this.#paused.push(before);
    this.targets.set('api', targetKindOf(endpoint, 'api').createTarget(endpoint, this.#context('api')));
  }

  async stop(): Promise<void> {
    for (const target of [...this.#paused, ...this.targets.values()]) await target.stop();
    this.clock.die();
  }

  get tunnels() {
    return EGRESSES.map((name) => (this.targets.get(name) as EgressTarget).connections);
  }

  get isBusy(): boolean {
    const obstacles = [...this.targets.values()].flatMap((target) => target.obstacles ?? []);
    return obstacles.length + this.tunnels.flatMap((tunnels) => tunnels.obstacles('')).length > 0;
  }
}

export class EgressWorld implements Happenings {
  readonly #happened: string[] = [];
  readonly clock = new ManualClock();
  readonly leads = new Map<string, string | null>(FIRST_ADDRESSES);
  readonly #pair = new SessionPair();
  readonly #servers: Servers;
  /** Streams of the guest to the egresses and to the origin, by id. */
  readonly #connections = new Map<number, MuxStream>();
  readonly #programs = new Map<number, MuxStream>();
  readonly #reached = new Set<number>();
  #lastId = 0;
  #lastQuestion = '';
  #configured = FIRST_RULES;
  #origin = FIRST_ORIGIN;
  #process: HostProcess;

  private constructor(servers: Servers, here: ChangeHere) {
    this.#servers = servers;
    servers.onSaid = this.#say;
    this.write('key-0');
    this.#process = new HostProcess(this, here);
    this.#pair.b.services = [...this.#process.targets.keys()];
    this.#pair.b.onSession = (session) => (session.server = { serve: (stream) => this.#serve(stream) });
    this.#pair.establish();
  }

  static async start(servers: Servers): Promise<EgressWorld> {
    return new EgressWorld(servers, await ChangeHere.prepare());
  }

  readonly #say = (line: string): void => void this.#happened.push(line);

  readonly log = (event: LogEvent): void => {
    const { event: name, fields } = event;
    if (JSON.stringify(event).includes('key-')) this.#say(`${name} shows the key`);
    if (name === 'egress-asked') this.#lastQuestion = String(fields['question']);
    const names = EVENTS[name];
    if (names === undefined) return;
    if (!LOG_EVENTS[name].isAudited && name !== 'egress-opened') this.#say(`${name} is not audited`);
    this.#say([name, ...names.split(' ').map((field) => textOf(fields[field]))].join(' '));
  };

  #serve(stream: SessionStream): void {
    const { here, targets } = this.#process;
    targets.get(stream.service)?.serve(here.forOld(stream));
  }

  get rules() {
    const of = ({ allow, askMs, deny }: (typeof FIRST_RULES)[Egress]) => ({ ...rulesOf(allow, deny), askMs });
    return new Map(EGRESSES.map((name) => [name, of(this.#configured[name])]));
  }

  get originText(): string {
    const { allow, isKeyed } = this.#origin;
    const options = allow.map(
      ({ isBeginning, methods, path }) => `,allow=${methods?.join('+') ?? '*'}:${path}${isBeginning ? '*' : ''}`,
    );
    const header = isKeyed ? `,header=X-Api-Key:@${this.#servers.keyFile}` : '';
    return `api:origin:http://127.0.0.1:${this.#servers.originPort}${options.join('')}${header}`;
  }

  get openQuestions(): string[] {
    return this.#process.egresses.questions.map(({ destination, egress }) => `${egress} ${destination}`);
  }

  /** Every address leads to the server that echoes. */
  connectTo(address: string, port: number): net.Socket {
    this.#say(`connect ${placeOf(address, port)}`);
    return net.connect({ host: '127.0.0.1', port: this.#servers.echoPort, allowHalfOpen: true, noDelay: true });
  }

  // ---- the guest ------------------------------------------------------------------------------------------------

  #open(streams: Map<number, MuxStream>, service: string, onData: (bytes: Buffer, id: number) => void): MuxStream {
    const id = (this.#lastId += 1);
    const stream = MuxStream.open(this.#pair.a.session, service);
    const over = (how: string): void => {
      if (streams.delete(id)) this.#say(`#${id} ${how}`);
      this.#reached.delete(id);
    };
    stream.on('stop', () => undefined);
    stream.on('error', () => over('reset'));
    stream.on('end', () => {
      over('end');
      stream.end();
    });
    stream.on('data', (bytes: Buffer) => onData(bytes, id));
    streams.set(id, stream);
    return stream;
  }

  connect(egress: Egress, host: string, port: number, isRedirected: boolean): void {
    const place = placeOf(host, port);
    let held = Buffer.alloc(0);
    let status: string | undefined;
    // What the guest's redirect: passes on to the program, or why it resets it.
    const reset = (_code: string, message: string): void => void (status = /: (\d+) /.exec(message)?.[1] ?? message);
    const answer = isRedirected ? new RedirectedAnswer(this.#pair.clock, { destination: place, reset }) : null;
    const decide = (bytes: Buffer): Buffer => {
      if (answer !== null) {
        const rest = answer.push(bytes);
        if (answer.isDone) status ??= '200';
        return rest;
      }
      held = Buffer.concat([held, bytes]);
      const end = held.indexOf('\r\n\r\n');
      if (end >= 0) status = held.toString('latin1', 9, 12);
      return status === '200' ? held.subarray(end + 4) : Buffer.alloc(0);
    };
    const stream = this.#open(this.#connections, egress, (bytes, id) => {
      if (!this.#connections.has(id)) return;
      const isDecided = status !== undefined;
      const rest = isDecided ? bytes : decide(bytes);
      if (!isDecided && status !== undefined) this.#say(`#${id} ${status}`);
      if (status === '200') this.#reached.add(id);
      else if (status !== undefined) this.#connections.delete(id);
      for (let at = 0; at < rest.length; at += 1) this.#say(`#${id} echo`);
    });
    stream.write(isRedirected ? redirectedRequest(place) : `CONNECT ${place} HTTP/1.1\r\nHost: ${place}\r\n\r\n`);
  }

  /** Tunnels must carry bytes; a connection that waits may as well, once it is open. */
  echo(): void {
    for (const id of this.#reached) this.#connections.get(id)?.write('.');
  }

  leave(at: number, how: 'ended' | 'reset'): void {
    const [id, stream] = [...this.#connections][at % this.#connections.size] ?? [];
    if (id === undefined || stream === undefined) return;
    if (how === 'ended') stream.end();
    else {
      this.#connections.delete(id);
      this.#reached.delete(id);
      stream.destroy();
    }
  }

  request(request: GuestRequest, isOnNew: boolean): void {
    const { body, fields, isChunked, method, query } = request;
    const last = isOnNew ? undefined : [...this.#programs.entries()].at(-1);
    let held = '';
    const stream =
      last?.[1] ??
      this.#open(this.#programs, 'api', (bytes, id) => {
        held += bytes.toString('latin1');
        const [head = '', status = '', size] = WHOLE_HEAD.exec(held) ?? [];
        if (size === undefined || held.length < head.length + Number(size)) return;
        held = '';
        this.#say(`#${id} ${status}`);
        // The one used last comes last.
        if (this.#programs.delete(id)) this.#programs.set(id, stream);
      });
    const head = [`${method} ${rawPathOf(request)}${query} HTTP/1.1`, 'Host: guest.test', ...fields];
    const sent = isChunked && body !== '' ? `${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n` : body;
    stream.write([...head, ...framingOf(request), '', sent].join('\r\n'), 'latin1');
  }

  // ---- the host's operator, and names ---------------------------------------------------------------------------

  #try(what: string, work: () => unknown): void {
    try {
      work();
    } catch {
      this.#say(`${what} failed`);
    }
  }

  answer(at: number, isAllowed: boolean, forMs: number | null): void {
    const { questions } = this.#process.egresses;
    const id = (at === 0 ? undefined : questions[at % questions.length]?.id) ?? this.#lastQuestion;
    this.#try('answer', () => this.#process.egresses.answer(id, isAllowed, forMs));
  }

  allow(egress: Egress, entry: string, forMs: number | null): void {
    this.#try('allow', () => this.#process.egresses.allow(egress, [entry], forMs));
  }

  ask(egress: Egress, askMs: number): void {
    this.#try('allow', () => this.#process.egresses.allow(egress, [], null, askMs));
  }

  reset(egress: Egress, isBlocked: boolean): void {
    if (isBlocked) this.#process.egresses.block(egress);
    else this.#process.egresses.reset(egress);
  }

  reload(...[internet, build]: Parameters<Happenings['reload']>): void {
    this.#configured = { internet, build };
    this.#process.egresses.adopt(this.rules);
  }

  reloadOrigin(rules: OriginRules): void {
    this.#origin = rules;
    this.#process.offerOrigin();
  }

  write(key: string): void {
    writeFileSync(this.#servers.keyFile, key, { mode: 0o600 });
  }

  lead(name: string, address: string | null): void {
    this.leads.set(name, address);
  }

  learn(egress: Egress, name: string, address: string, ttl: number): void {
    this.#process.egresses.names.learn(egress, name, [address], ttl);
  }

  pass(ms: number): void {
    this.clock.advance(ms);
  }

  /** Another process takes over. As with `vproxy upgrade`, a question holds it up, and it ends idle programs. */
  async upgrade(): Promise<void> {
    const old = this.#process;
    if (this.openQuestions.length > 0 && old.isBusy) {
      this.#say('upgrade waits');
      return;
    }
    await eventually(() => !old.isBusy, { intervalMs: 1, what: 'the end of what cannot be handed over' });
    const streams = this.#pair.b.session.streams.listAll();
    const indexOf = (stream: SessionStream) => streams.indexOf(old.here.targetOf(stream) as SessionStream);
    for (const target of old.targets.values()) target.letWait?.(true);
    const states = old.tunnels.map((tunnels) => tunnels.capture(old.here.keep, indexOf));
    const state = old.here.end({ states, changes: old.egresses.changes, names: old.egresses.names.state });
    await old.stop();
    const next = new HostProcess(this, await ChangeHere.prepare(), state.changes, state.names);
    this.#process = next;
    const inheritance = { take: old.here.take, streams: streams.map((stream) => next.here.forOld(stream)) };
    for (const [at, tunnels] of next.tunnels.entries()) {
      tunnels.restore(state.states[at] ?? [], inheritance);
      tunnels.goOn();
    }
    next.egresses.goOn();
    const kept = state.states.flat().map(({ stream }) => stream);
    for (const [at, stream] of streams.entries())
      if (!kept.includes(at) && !stream.isOver && !stream.isLeft) stream.reset('cancelled', 'it was not handed over');
  }

  /** What has happened, once so many lines have come and no more do. */
  async take(lineCount: number): Promise<string[]> {
    const deadline = new Deadline(3000);
    for (let stillTurns = 0; stillTurns < 10 && !deadline.isOver; ) {
      const before = this.#happened.length;
      const hasMoved = this.#pair.step();
      await setImmediate();
      stillTurns = hasMoved || this.#happened.length > before || before < lineCount ? 0 : stillTurns + 1;
    }
    deadline.cancel();
    return this.#happened.splice(0);
  }

  async stop(): Promise<void> {
    this.#servers.onSaid = () => undefined;
    this.#process.egresses.stop();
    await this.#process.stop();
    await this.take(0);
  }
}

const WHOLE_HEAD = /^HTTP\/1\.1 (\d+) [^]*?Content-Length: (\d+)\r\n[^]*?\r\n\r\n/;
