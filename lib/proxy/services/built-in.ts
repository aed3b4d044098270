/** A service that vproxy serves by itself where it is allowed, with code that is loaded only there. */

import { promises as fs } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import { systemCode, VproxyError } from '../../errors.js';
import { type Log, makeEvent } from '../../events.js';
import type { ExecRules } from '../../exec/decide-command.js';
import type { TerminalRecorders } from '../../exec/served-call.js';
import type { ServiceHandler, ServiceRegistry } from '../../forward/service-registry.js';
import { MuxStream } from '../../session/mux-stream.js';
import type { Clock } from '../../util/clock.js';
import { describeError, escapeText } from '../../util/escape.js';

/** Serves the streams of a service. */
export interface StreamServer {
  /** Takes over a stream that is accepted. */
  serve(stream: MuxStream): void;
  /** Whether something lives of what a stream asked for, be the stream open or gone. Default: nothing outlives its stream. */
  isServing?(stream: MuxStream): boolean;
  /** Ends everything that a stream asked for, within half a second. */
  stop(): Promise<void>;
}

interface BuiltInServiceOptions<P> {
  readonly name: string;
  readonly registry: ServiceRegistry;
  readonly log: Log;
  /** Loads the code, and makes a server with this permission of it. */
  readonly load: (permission: P) => Promise<StreamServer>;
}

/** The service of one channel. `start` once, then `stop` once; the permission `P` may be another one at any time. */
export class BuiltInService<P> {
  readonly #options: BuiltInServiceOptions<P>;
  readonly #servers = new Set<Promise<StreamServer>>();
  #permission: P | null = null;
  /** That of the permission. */
  #server: Promise<StreamServer> | null = null;
  #isStarted = false;
  #isStopped = false;

  constructor(options: BuiltInServiceOptions<P>) {
    this.#options = options;
  }

  /**
   * Gives what puts a permission in force by `allow`: called in the same turn, it cannot fail. Throws `bad-argument` where
   * another has the name.
   */
  prepare(permission: P | null): () => void {
    const { name, registry } = this.#options;
    if (permission !== null && this.#permission === null) registry.requireFree(name);
    return () => this.allow(permission);
  }

  /** Puts a permission in force, for the streams opened from now on; null offers the service no more. Throws `bad-argument` where another has its name. */
  allow(permission: P | null): void {
    const { name, registry } = this.#options;
    if (isDeepStrictEqual(permission, this.#permission)) return;
    if (permission === null) registry.remove(name, this.#serve);
    else if (this.#permission === null) registry.add(name, this.#serve);
    this.#permission = permission;
    this.#server = null;
    if (this.#isStarted) void this.#load();
  }

  /** Loads the code where there is a permission: not at the first stream, as a newer version may be in its place by then. */
  start(): void {
    this.#isStarted = true;
    void this.#load();
  }

  /** Ends what streams asked for, also by permissions that are not in force any more. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    const nothing = () => undefined;
    await Promise.all([...this.#servers].map((server) => server.then((found) => found.stop(), nothing)));
  }

  #load(): Promise<StreamServer> | null {
    if (this.#permission === null || this.#isStopped) return null;
    if (this.#server !== null) return this.#server;
    const server = this.#options.load(this.#permission);
    this.#server = server;
    this.#servers.add(server);
    server.catch((error: unknown) => this.#fail(server, error));
    return server;
  }

  readonly #serve: ServiceHandler = (incoming, session) => {
    const stream = MuxStream.accept(session, incoming);
    const refuse = () => stream.destroy(new VproxyError('internal', `service ${this.#options.name} cannot be served`));
    const server = this.#load();
    if (server === null) refuse();
    return server?.then((found) => {
      if (this.#isStopped) refuse();
      else if (!stream.destroyed) {
        incoming.isServed = () => found.isServing?.(stream) ?? false;
        found.serve(stream);
      }
    }, refuse);
  };

  /** The next stream tries it again. */
  #fail(server: Promise<StreamServer>, error: unknown): void {
    const { name, log } = this.#options;
    this.#servers.delete(server);
    if (this.#server === server) this.#server = null;
    const message = `service ${name} cannot be served: ${escapeText(describeError(error), 200)}`;
    log(makeEvent('service-failed', message, { service: name }));
  }
}

// Commands for the peer as a part of a channel: what it may run, where it may run anything (docs/exec.md).

/** The name of the service, without the module that has it, which is loaded where commands are allowed. */
export const EXEC_SERVICE: typeof import('../../exec/exec-messages.js').EXEC_SERVICE = 'exec';

/** What the peer may run here. */
export type ExecPermission = ExecRules;

interface ExecServiceOptions {
  readonly registry: ServiceRegistry;
  readonly clock: Clock;
  readonly log: Log;
  /** Who records a terminal that begins; null: nobody. */
  readonly findRecorder: () => Promise<TerminalRecorders | null>;
}

/** The service `exec` of a channel, which offers nothing before it has a permission. */
export function execService({
  registry,
  clock,
  log,
  findRecorder,
}: ExecServiceOptions): BuiltInService<ExecPermission> {
  return new BuiltInService({
    name: EXEC_SERVICE,
    registry,
    log,
    load: async (rules) => {
      const [{ ExecRunner }, { spawnInTerminal }] = await Promise.all([
        import('../../exec/exec-runner.js'),
        import('../../exec/pty/spawn-in-terminal.js'),
        warnOfMissing(rules, log),
      ]);
      return new ExecRunner({ rules, clock, log, spawnInTerminal, findRecorder });
    },
  });
}

/** A program may be installed later, so this is no error. */
async function warnOfMissing({ commands }: ExecPermission, log: Log): Promise<void> {
  for (const path of commands === 'any' ? [] : commands) {
    await fs.access(path).catch((error: unknown) => {
      if (!['ENOENT', 'ENOTDIR'].includes(systemCode(error))) return;
      const message = `${escapeText(path)} is allowed to be run, but it is not there`;
      log(makeEvent('exec-missing', message, { path }));
    });
  }
}

// Files from and to the peer as a part of a channel: where it may read and write, if anywhere (docs/copy.md).

/** The name of the service. */
export const COPY_SERVICE = 'copy';

/** Which files the peer may read and write: those under an absolute path, or null: all. */
export interface CopyPermission {
  /** An absolute path, or null. */
  readonly root: string | null;
}

interface CopyServiceOptions {
  readonly registry: ServiceRegistry;
  readonly clock: Clock;
  readonly log: Log;
}

/** The service `copy` of a channel, which offers nothing before it has a permission. */
export function copyService({ registry, clock, log }: CopyServiceOptions): BuiltInService<CopyPermission> {
  return new BuiltInService({
    name: COPY_SERVICE,
    registry,
    log,
    load: async ({ root }) => {
      const { CopyService } = await import('../../copy/copy-service.js');
      return new CopyService({ root, clock, log });
    },
  });
}

// What this machine says of itself, as a part of a channel (docs/info.md).

/** The name of the service, without the module that has it. */
export const INFO_SERVICE: typeof import('../../info/info-messages.js').INFO_SERVICE = 'info';

/** The service `info` of a channel, which offers nothing before it is allowed by `true`. */
export function infoService({ registry, clock, log }: CopyServiceOptions): BuiltInService<true> {
  return new BuiltInService({
    name: INFO_SERVICE,
    registry,
    log,
    load: async () => {
      const { InfoService } = await import('../../info/info-service.js');
      return new InfoService({ clock });
    },
  });
}
