/** vproxy's own services: which there are, where they are offered, and how their permissions change. */

import { statSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import type { ChannelAddress } from '../channel/address/address.js';
import { badArgument } from '../errors.js';
import type { Log } from '../events.js';
import type { ServicePolicy, ServiceRegistry } from '../forward/service-registry.js';
import type { ForwardSpec } from '../forward/spec.js';
import { AMOUNT, type ChecksOf, FLAG, listOf, orNull, record, TEXT } from '../util/checks.js';
import type { Clock } from '../util/clock.js';
import { escapeText } from '../util/escape.js';
import { orElse } from '../util/or-else.js';
import { BuiltInService, type StreamServer } from './built-in.js';
import type { ClockFollowing, ClockPermission } from './clock/permission.js';
import type { CopyPermission } from './copy/copy-service.js';
import type { ExecRules } from './exec/decide-command.js';
import type { ExecRunner } from './exec/exec-runner.js';
import type { TerminalRecorders } from './exec/served-call.js';

/** What a channel lets its peer do, by service. */
export interface Permissions {
  /** The commands that the peer may run on this side; null to not offer the service. Default null. */
  readonly exec?: ExecRules | null;
  /** The files of this side that the peer may read and write; null to not offer the service. Default null. */
  readonly copy?: CopyPermission | null;
  /** Whether the peer may query this machine: name, system, memory, disks, addresses. Default: if the channel leads to a host. */
  readonly info?: boolean;
  /** How this machine follows the peer's clock; null to leave it alone. Default null. */
  readonly followClock?: ClockFollowing | null;
  /** Whether the peer may freeze file systems of this machine. Default false. */
  readonly freeze?: boolean;
  /** Whether to take random numbers from the peer after a restore; `followClock` does so, too. Default false. */
  readonly reseed?: boolean;
}

export const PERMISSION_CHECKS = {
  exec: orNull(record({}, { commands: (value, field) => value === 'any' || listOf(TEXT)(value, field) })),
  copy: orNull(record({}, { root: orNull(TEXT) })),
  info: FLAG,
  followClock: orNull(record({}, { thresholdMs: AMOUNT, maxBackMs: AMOUNT })),
  freeze: FLAG,
  reseed: FLAG,
} satisfies ChecksOf<Permissions>;

/** The options of a channel that decide whether a permission may be given. */
interface PermittingOptions extends Permissions {
  readonly address: ChannelAddress;
  readonly forwards?: readonly ForwardSpec[];
  readonly keyFiles?: readonly string[];
  readonly insecure?: boolean;
}

/** What a channel gives to the servers of its services. */
interface ChannelParts {
  readonly clock: Clock;
  readonly log: Log;
  /** Finds what records the terminals of commands. */
  readonly findRecorder: () => Promise<TerminalRecorders | null>;
}

interface Commands {
  /** Null before `exec` was permitted. */
  runner: ExecRunner | null;
  /** Limit on commands and jobs, by the rule of the service. */
  most: number;
}

interface OwnService<P> {
  readonly name: string;
  /** The channel options that permit it. */
  readonly fields: readonly (keyof Permissions)[];
  /** The option of the command line. */
  readonly flag: string;
  /** Whether a forward of its name replaces it. Default false. */
  readonly yields?: boolean;
  /** What the options permit the peer; null: the service is not offered. */
  permit(options: PermittingOptions): P | null;
  /** Loads the code. The modules of services are not imported otherwise. */
  load(permission: P, parts: ChannelParts, commands: Commands): Promise<StreamServer<P>>;
}

const EXEC_NAME = 'exec' satisfies typeof import('./exec/exec-messages.js').EXEC_SERVICE;

/** Further streams of `exec`, to list, read and stop jobs. */
const MORE_STREAMS = 64;

const isTaken = (name: string, forwards: readonly ForwardSpec[]): boolean =>
  forwards.some(({ direction, service }) => direction === 'incoming' && service === name);

const row = <P>(service: OwnService<P>): OwnService<unknown> => service;

const OWN_SERVICES: readonly OwnService<unknown>[] = [
  row<ExecRules>({
    name: EXEC_NAME,
    fields: ['exec'],
    flag: '--allow-exec',
    permit: ({ exec = null }) => exec,
    async load(rules, { clock, log, findRecorder }, commands) {
      const [{ ExecRunner }, { spawnInTerminal }] = await Promise.all([
        import('./exec/exec-runner.js'),
        import('./exec/pty/spawn-in-terminal.js'),
      ]);
      const mostCommands = (): number => commands.most;
      commands.runner = new ExecRunner({ rules, clock, log, mostCommands, spawnInTerminal, findRecorder });
      return commands.runner;
    },
  }),
  row<CopyPermission>({
    name: 'copy' satisfies typeof import('./copy/copy-messages.js').COPY_SERVICE,
    fields: ['copy'],
    flag: '--allow-copy',
    permit: ({ copy = null }) => copy,
    async load({ root }, { clock, log }) {
      const { CopyService } = await import('./copy/copy-service.js');
      return new CopyService({ root, clock, log });
    },
  }),
  row<CopyPermission>({
    name: 'sftp' satisfies typeof import('./sftp/sftp-numbers.js').SFTP_SERVICE,
    fields: ['copy'],
    flag: '--allow-copy',
    yields: true,
    permit: ({ copy = null, forwards = [] }) => (isTaken('sftp', forwards) ? null : copy),
    async load({ root }, { clock, log }) {
      const { SftpService } = await import('./sftp/sftp-service.js');
      return new SftpService({ root, clock, log });
    },
  }),
  row<true>({
    name: 'info' satisfies typeof import('./info/info-messages.js').INFO_SERVICE,
    fields: ['info'],
    flag: '--info',
    /** By default if the peer is a host, unless a forward has the name of the service. */
    permit({ info, forwards = [], address: { kind, address } }) {
      return (info ?? kind.leadsToHost?.(address)) && !isTaken('info', forwards) ? true : null;
    },
    async load(_permission, { clock }) {
      const { InfoService } = await import('./info/info-service.js');
      return new InfoService({ clock });
    },
  }),
  row<ClockPermission>({
    name: 'clock' satisfies typeof import('./clock/clock-messages.js').CLOCK_SERVICE,
    fields: ['followClock', 'reseed'],
    flag: '--follow-clock',
    permit: ({ followClock = null, reseed = false }) =>
      followClock !== null || reseed ? { following: followClock } : null,
    async load(permission, { clock, log }) {
      const { ClockService } = await import('./clock/clock-service.js');
      return new ClockService({ permission, clock, log });
    },
  }),
  row<true>({
    name: 'freeze' satisfies typeof import('./freeze/freeze-messages.js').FREEZE_SERVICE,
    fields: ['freeze'],
    flag: '--allow-freeze',
    permit: ({ freeze = false }) => (freeze ? true : null),
    async load(_permission, { clock, log }) {
      const { FreezeService } = await import('./freeze/freeze-service.js');
      return new FreezeService({ clock, log });
    },
  }),
];

interface PermittedServicesOptions extends ChannelParts {
  readonly registry: ServiceRegistry;
}

/** How long a drain waits for work that outlives its stream, and how often it looks, in milliseconds. */
const FINISH_MS = 30_000;
const LOOK_MS = 50;

/** Offers the permitted services. Call `start` once, then `stop` once. */
export class PermittedServices {
  readonly #commands: Commands = { runner: null, most: Number.POSITIVE_INFINITY };
  readonly #offers: readonly { readonly row: OwnService<unknown>; readonly service: BuiltInService<unknown> }[];

  readonly #parts: ChannelParts;

  constructor(options: PermittedServicesOptions) {
    this.#parts = options;
    this.#offers = OWN_SERVICES.map((row) => ({
      row,
      service: new BuiltInService({
        name: row.name,
        load: (permission) => row.load(permission, options, this.#commands),
        ...options,
      }),
    }));
  }

  /** Returns a function that applies the permissions: see {@link BuiltInService.prepare}. Throws as that does. */
  prepare(options: PermittingOptions): () => void {
    const steps = this.#offers.map(({ row, service }) => service.prepare(row.permit(options)));
    return () => {
      for (const step of steps) step();
    };
  }

  /**
   * Applies the rule of a service, and returns the rule for its streams. `exec` counts commands and jobs as long as they run,
   * and has more streams, so that jobs can be read and stopped.
   */
  applyRule(service: string, policy: ServicePolicy | null): ServicePolicy | null {
    const { streams, isAllowed = true } = policy ?? {};
    this.#offers.find(({ row }) => row.name === service)?.service.deny(!isAllowed);
    if (service !== EXEC_NAME) return policy;
    this.#commands.most = streams ?? Number.POSITIVE_INFINITY;
    this.#commands.runner?.admitWaiting();
    return streams === undefined ? policy : { ...policy, streams: streams + MORE_STREAMS };
  }

  /** Loads the code of the offered services. */
  start(): void {
    for (const { service } of this.#offers) service.start();
  }

  /** The jobs of the peer that run, which cannot be handed over to a successor, human-readable. */
  get jobs(): string[] {
    return this.#commands.runner?.jobs ?? [];
  }

  /** Other work that has outlived its stream, and cannot be handed over: see {@link BuiltInService.unfinished}. */
  get unfinished(): string[] {
    return this.#offers.flatMap(({ service }) => service.unfinished);
  }

  /** Ends the jobs and the unfinished work; returns what they were. */
  cut(): string[] {
    const all = [...this.jobs, ...this.unfinished];
    for (const { service } of this.#offers) service.endUnfinished();
    return all;
  }

  /** Resolves when nothing is {@link unfinished} and there is no more to wait for, after 30 s at the latest, or when aborted. */
  async finish(signal: AbortSignal, isMore: () => boolean): Promise<void> {
    const { clock } = this.#parts;
    const untilMs = clock.now() + FINISH_MS;
    while ((this.unfinished.length > 0 || isMore()) && clock.now() < untilMs && !signal.aborted)
      await new Promise<void>((resolve) => clock.schedule(LOOK_MS, resolve));
  }

  /** Ends commands, copies and answers, within half a second. */
  async stop(): Promise<void> {
    await Promise.all(this.#offers.map(({ service }) => service.stop()));
  }
}

export const permittedNames = (options: PermittingOptions): string[] =>
  OWN_SERVICES.filter((row) => row.permit(options) !== null).map(({ name }) => name);

export const changedPermissions = (one: Permissions, other: Permissions): string[] =>
  OWN_SERVICES.filter(({ fields }) =>
    fields.some((field) => !isDeepStrictEqual(one[field] ?? null, other[field] ?? null)),
  ).map(({ name }) => name);

/**
 * Throws `bad-argument` if a channel offers one of these services to a peer that could be a stranger, if a forward has its
 * name, or if copies have no folder.
 */
export function requireAllowable(options: PermittingOptions): void {
  for (const row of OWN_SERVICES) if (row.fields.some((field) => options[field] ?? false)) requireAllowed(row, options);
  const { root } = options.copy ?? { root: null };
  if (root !== null && !isFolder(root)) throw badArgument(`--allow-copy=${escapeText(root)}: no such folder`);
}

const isFolder = (path: string): boolean => orElse(false, () => statSync(path).isDirectory());

function requireAllowed({ flag, name, yields = false }: OwnService<unknown>, options: PermittingOptions): void {
  const { address: channel, forwards = [], keyFiles = [], insecure = false } = options;
  const { kind, address, text, traits } = channel;
  const isKnown = traits.tls !== null || keyFiles.length > 0 || insecure;
  const strangers = kind.strangers?.(address) ?? null;
  if (!isKnown && strangers !== null) {
    const what = `the peer could be ${strangers}; give both sides a --key FILE, or this one --insecure`;
    throw badArgument(`channel "${escapeText(text)}": ${flag}: ${what}`);
  }
  if (!yields && isTaken(name, forwards)) {
    const what = `service ${name} is offered twice; ${flag} offers it, and so does an -i`;
    throw badArgument(`channel "${escapeText(text)}": ${what}`);
  }
}
