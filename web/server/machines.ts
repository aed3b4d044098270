/** The machines that `vproxy web` shows: all channels of all processes whose control sockets this user can use. */
import { basename } from 'node:path';
import { unsteady } from '../../cli/doctor/subjects/session.js';
import { toneOfState } from '../../cli/ui/color.js';
import { shownState } from '../../cli/ui/status.js';
import { getValue, requestError } from '../../lib/control/client/plain-http.js';
import { VproxyError } from '../../lib/errors.js';
import { remedyFor } from '../../lib/remedies.js';
import type {
  ChannelStatus,
  ControlStatus,
  EgressQuestion,
  EgressStats,
  EgressStatus,
  ForwardStatus,
  JobOfChannel,
  MachineInfo,
  PortWithUrl,
  ServiceStatus,
  StreamWithRates,
} from '../../lib/status/types.js';
import type { CancelTimer, Clock } from '../../lib/util/clock.js';
import {
  type MachineRow,
  type MachinesView,
  type MachineView,
  MOST_LISTED,
  type ORDERS,
  type Permissions,
  STEP_MS,
} from '../views.js';
import { checkFacts, checkStatus, itemsOf, questionsIn } from './checks.js';
import { History } from './history.js';

/** The time between two looks while a page asks, in milliseconds; otherwise `STEP_MS`. */
const LOOK_MS = 1000;

/** A page that has not asked for so long is closed, or hidden. */
const ASKED_MS = 10_000;

/** A look takes at most this share of the time: with a thousand channels, an answer costs its process 10 ms and more. */
const LOOK_SHARE = 0.01;

/** How often sockets are looked for. */
const FIND_MS = 5000;

/** How old facts about a machine in the table may be, and of one that is shown: each question is a stream, and two events. */
const TABLE_FACTS_MS = 120_000;
const SHOWN_FACTS_MS = 10_000;

/** The timeout of a request to a control socket. */
const ANSWER_MS = 5000;

/** The most rows of an answer. */
const MOST_ROWS = 200;

/** A name that is a key: a part of a path, and not the path of a socket. */
const KEY = /^(?!\.\.?$)[^/]+$/;

export type Order = (typeof ORDERS)[number];

export interface MachinesOptions {
  /** Finds the paths of control sockets. */
  readonly find: () => Promise<readonly string[]>;
  readonly clock: Clock;
}

interface Machine {
  readonly process: Process;
  channel: ChannelStatus;
  readonly history: History;
  facts: MachineInfo | null;
  factsAtMs: number;
}

interface Process {
  readonly path: string;
  /** For requests of pages; kept as long as the process has this name. */
  key: string;
  name: string | null;
  status: ControlStatus | null;
  trouble: VproxyError | null;
  questions: readonly EgressQuestion[];
  /** By label. */
  readonly machines: Map<string, Machine>;
  isAsked: boolean;
  /** When it may be asked again. */
  nextMs: number;
}

/** Call `start` once, then `stop`. */
export class Machines {
  readonly #options: MachinesOptions;
  /** By path. */
  #processes = new Map<string, Process>();
  #foundAtMs = Number.NEGATIVE_INFINITY;
  #askedAtMs = Number.NEGATIVE_INFINITY;
  #cancel: CancelTimer = () => undefined;
  #isFinding = false;
  #isStopped = false;
  /** The requests in progress. */
  readonly #asking = new Set<AbortController>();

  constructor(options: MachinesOptions) {
    this.#options = options;
  }

  /** Looks once, then again and again. Resolves when all have answered, or timed out. */
  async start(): Promise<void> {
    await this.#look();
  }

  stop(): void {
    this.#isStopped = true;
    for (const request of this.#asking) request.abort();
    this.#cancel();
  }

  /** The path of the control socket of a process. Throws `not-found`. */
  socketOf(key: string): string {
    return this.#process(key).path;
  }

  /** The rows `from` to `from + count` of those whose label or process has `filter` in it. */
  list(from: number, count: number, order: Order, filter: string): Omit<MachinesView, keyof Permissions> {
    this.#wake();
    const processes = [...this.#processes.values()];
    const all = processes.flatMap(({ machines }) => [...machines.values()]);
    const wanted = filter.toLowerCase();
    const matching = all.filter(({ process, channel }) =>
      `${process.key} ${channel.label}`.toLowerCase().includes(wanted),
    );
    const first = Math.max(0, Math.min(from, matching.length - 1));
    const shown = matching.sort(COMPARE[order]).slice(first, first + Math.min(count, MOST_ROWS));
    for (const machine of shown) void this.#askFacts(machine, TABLE_FACTS_MS);
    return {
      processes: processes.map(({ key, status, trouble }) => ({
        key,
        pid: status?.process.pid ?? null,
        version: status?.process.version ?? null,
        trouble: trouble?.message ?? null,
      })),
      rows: shown.map(rowOf),
      from: first,
      matching: matching.length,
      total: all.length,
      troubled: all.filter((machine) => toneOf(machine) !== 'good').length,
      questions: processes
        .flatMap(({ key, questions }) => questions.map((one) => ({ ...one, process: key })))
        .sort((a, b) => Date.parse(a.askedAt) - Date.parse(b.askedAt))
        .slice(0, MOST_LISTED),
    };
  }

  /** A channel, whole; with its jobs only if they are wanted. Rejects with `not-found`, and as requests to its process do. */
  async show(key: string, label: string, historyFrom: number, hasJobs: boolean): Promise<MachineView> {
    this.#wake();
    const { path, machines } = this.#process(key);
    const machine = machines.get(label);
    if (machine === undefined) throw new VproxyError('not-found', `${key} has no channel ${label}`);
    void this.#askFacts(machine, SHOWN_FACTS_MS);
    const ask = async <T extends { readonly channel: string }>(what: string): Promise<T[]> =>
      itemsOf(label, await this.#ask(path, `/v1/${what}`));
    const [streams, forwards, services, ports, egresses] = await Promise.all([
      ask<StreamWithRates>('streams'),
      ask<ForwardStatus>('forwards'),
      ask<ServiceStatus>('services'),
      ask<PortWithUrl>('ports'),
      ask<EgressStatus & { readonly channel: string }>('egress'),
    ]);
    const egressStats = egresses.length === 0 ? [] : await ask<EgressStats>('egress/stats');
    return {
      row: rowOf(machine),
      channel: machine.channel,
      history: machine.history.since(historyFrom),
      streams: streams.sort((a, b) => rateOf(b) - rateOf(a) || a.ageMs - b.ageMs).slice(0, MOST_LISTED),
      streamCount: streams.length,
      forwards: forwards.slice(0, MOST_LISTED),
      services: services.slice(0, MOST_LISTED),
      ports: ports.slice(0, MOST_LISTED),
      egresses,
      egressStats: egressStats.slice(0, MOST_LISTED),
      jobs: hasJobs ? await this.#jobsOf(machine) : null,
      machine: machine.facts,
    };
  }

  async #jobsOf({ process: { path }, channel: { label, session } }: Machine): Promise<MachineView['jobs']> {
    if (session?.peer.services.includes('exec') !== true) return null;
    try {
      const target = `/v1/jobs?channel=${encodeURIComponent(label)}`;
      return itemsOf<JobOfChannel>(label, await this.#ask(path, target)).slice(0, MOST_LISTED);
    } catch (error) {
      return requestError(path, error).message;
    }
  }

  #process(key: string): Process {
    const found = [...this.#processes.values()].find((process) => process.key === key);
    if (found === undefined) throw new VproxyError('not-found', `there is no process ${key}`);
    return found;
  }

  /** A page asks: looks at once if none has for a while. */
  #wake(): void {
    const nowMs = this.#options.clock.now();
    const wasAsleep = nowMs - this.#askedAtMs >= ASKED_MS;
    this.#askedAtMs = nowMs;
    if (!wasAsleep || this.#isFinding) return;
    this.#cancel();
    this.#cancel = this.#options.clock.schedule(0, () => void this.#look());
  }

  async #look(): Promise<void> {
    const { clock } = this.#options;
    if (clock.now() - this.#foundAtMs >= FIND_MS) await this.#find();
    if (this.#isStopped) return;
    const pauseMs = clock.now() - this.#askedAtMs < ASKED_MS ? LOOK_MS : STEP_MS;
    this.#cancel = clock.schedule(pauseMs, () => void this.#look());
    // One that hangs does not keep the others waiting.
    await Promise.all([...this.#processes.values()].map((process) => this.#lookAt(process)));
  }

  async #find(): Promise<void> {
    this.#foundAtMs = this.#options.clock.now();
    this.#isFinding = true;
    // Without descriptors nothing is found: those that were known stay.
    const paths = await this.#options.find().catch(() => [...this.#processes.keys()]);
    this.#isFinding = false;
    const known = this.#processes;
    this.#processes = new Map(
      paths.map((path) => [
        path,
        known.get(path) ?? {
          ...{ path, key: path, name: null, status: null, trouble: null, questions: [], machines: new Map() },
          ...{ isAsked: false, nextMs: Number.NEGATIVE_INFINITY },
        },
      ]),
    );
  }

  async #lookAt(process: Process): Promise<void> {
    const { path, machines } = process;
    const beganMs = this.#options.clock.now();
    if (process.isAsked || beganMs < process.nextMs) return;
    process.isAsked = true;
    try {
      const status = checkStatus(await this.#ask(path, '/v1/status'));
      const nowMs = this.#options.clock.now();
      process.status = status;
      process.trouble = null;
      const labels = new Set(status.channels.map(({ label }) => label));
      for (const label of machines.keys()) if (!labels.has(label)) machines.delete(label);
      for (const channel of status.channels) {
        const machine = machines.get(channel.label) ?? {
          ...{ process, channel, history: new History(), facts: null, factsAtMs: Number.NEGATIVE_INFINITY },
        };
        machine.channel = channel;
        machine.history.add(channel, nowMs);
        machines.set(channel.label, machine);
      }
      process.questions = questionsIn(await this.#ask(path, '/v1/egress/questions').catch(() => []));
    } catch (error) {
      process.trouble = requestError(path, error);
      process.questions = [];
      // Its channels stay as they were last seen, for a restart.
    }
    process.isAsked = false;
    const endedMs = this.#options.clock.now();
    process.nextMs = Math.min(endedMs + (endedMs - beganMs) / LOOK_SHARE, beganMs + STEP_MS - LOOK_MS);
    this.#nameProcesses();
  }

  /** A process has its name as its key, unless another has it: what a page shows and does is never of another process. */
  #nameProcesses(): void {
    const processes = [...this.#processes.values()];
    for (const process of processes) {
      const name = process.status?.process.name ?? basename(process.path, '.sock');
      if (name === process.name) continue;
      process.name = name;
      const isFree = KEY.test(name) && processes.every(({ key }) => key !== name);
      process.key = isFree ? name : process.path;
    }
  }

  async #askFacts(machine: Machine, oldMs: number): Promise<void> {
    const { process, channel } = machine;
    const nowMs = this.#options.clock.now();
    if (channel.session?.peer.services.includes('info') !== true || nowMs - machine.factsAtMs < oldMs) return;
    machine.factsAtMs = nowMs;
    const target = `/v1/info?channel=${encodeURIComponent(channel.label)}`;
    const asked = this.#ask(process.path, target).then(checkFacts);
    machine.facts = await asked.catch(() => null);
  }

  /** Not with AbortSignal.any of a timeout, which Node 20 may collect as garbage before it has passed. */
  async #ask<T>(path: string, target: string): Promise<T> {
    const request = new AbortController();
    this.#asking.add(request);
    const late = new DOMException('timeout', 'TimeoutError');
    const cancel = this.#options.clock.schedule(ANSWER_MS, () => request.abort(late));
    try {
      return await getValue<T>(path, target, request.signal);
    } finally {
      cancel();
      this.#asking.delete(request);
    }
  }
}

const rateOf = ({ sendRate, receiveRate }: StreamWithRates): number => sendRate + receiveRate;

function rowOf(machine: Machine): MachineRow {
  const { process, channel, history, facts } = machine;
  const { label, since, detail, session, history: sessions } = channel;
  const code = sessions.recent[0]?.code ?? '';
  const isGone = process.trouble !== null;
  const isUp = session !== null && !isGone;
  return {
    process: process.key,
    label,
    state: stateOf(machine),
    tone: toneOf(machine),
    since,
    detail: isGone ? (process.trouble?.message ?? null) : (detail ?? (isUp ? null : remedyFor(code))),
    peer: session === null ? null : (session.peer.name ?? session.peer.agent),
    roundTripMs: isUp && session.silentMs === null ? session.roundTripMs : null,
    streams: session?.streams ?? 0,
    sendRate: isUp ? history.sendRate : 0,
    receiveRate: isUp ? history.receiveRate : 0,
    recent: history.recent,
    asked: process.questions.filter((question) => question.channel === label).length,
    machine: isUp && facts !== null ? { load: facts.load, processors: facts.processors, memory: facts.memory } : null,
  };
}

function stateOf({ process, channel }: Machine): string {
  if (process.trouble !== null) return 'process gone';
  const state = shownState(channel);
  return state === 'established' && unsteady(channel, Date.now()).length > 0 ? 'unsteady' : state;
}

function toneOf(machine: Machine): MachineRow['tone'] {
  const state = stateOf(machine);
  if (state === 'process gone') return 'bad';
  const tone = toneOfState(state);
  return tone === 'good' || tone === 'bad' ? tone : 'doubtful';
}

const byName = (a: Machine, b: Machine): number =>
  COLLATOR.compare(a.process.key, b.process.key) || COLLATOR.compare(a.channel.label, b.channel.label);

const COLLATOR = new Intl.Collator('en', { numeric: true });

const TROUBLE: Readonly<Record<MachineRow['tone'], number>> = { bad: 0, doubtful: 1, good: 2 };

const traffic = ({ history }: Machine): number => history.sendRate + history.receiveRate;

const COMPARE: Readonly<Record<Order, (a: Machine, b: Machine) => number>> = {
  name: byName,
  trouble: (a, b) => TROUBLE[toneOf(a)] - TROUBLE[toneOf(b)] || byName(a, b),
  traffic: (a, b) => traffic(b) - traffic(a) || byName(a, b),
};
