/** The library as one side of a channel: its sessions outlive the connections that it accepts, one after another. */
import { randomBytes } from 'node:crypto';
import net from 'node:net';
import type { ExecutionContext } from 'ava';
import { VproxyError } from '../../lib/errors.js';
import { LinkRunner } from '../../lib/link/link-runner.js';
import { SocketLink } from '../../lib/link/socket-link.js';
import { MuxStream } from '../../lib/session/mux-stream.js';
import { KeptSessions } from '../../lib/session/resume/kept-sessions.js';
import type { Session } from '../../lib/session/session.js';
import { type SessionSettings, sessionSettings } from '../../lib/session/settings.js';
import { readBuffered } from '../../lib/system/sockets/node-sockets.js';
import { systemClock } from '../../lib/util/clock.js';

export interface LibrarySideOptions {
  /** How long a session waits for another channel, in milliseconds. Default 60,000. */
  readonly resumeMs?: number;
  /** What is kept before data waits, in bytes. Default 64 MiB. */
  readonly memoryBytes?: number;
  readonly settings?: Partial<SessionSettings>;
}

/** It listens, offers `echo`, and is closed when the test ends. */
export class LibrarySide {
  readonly sessions: Session[] = [];
  /** The codes that sessions ended with. */
  readonly endings: string[] = [];
  /** How often a session went on with another channel. */
  resumptions = 0;
  /** How many connections were taken. */
  connections = 0;
  /** While true each connection is closed at once. */
  isRefusing = false;
  readonly #settings: SessionSettings;
  readonly #server: net.Server;
  readonly #runners = new Set<LinkRunner>();

  constructor(t: ExecutionContext, path: string, options: LibrarySideOptions = {}) {
    const { resumeMs = 60_000, memoryBytes = 64 * 2 ** 20, settings = {} } = options;
    const resume = { kept: new KeptSessions(systemClock, resumeMs), memoryBytes };
    this.#settings = sessionSettings({ instance: randomBytes(16).toString('hex'), randomBytes, resume, ...settings });
    this.#server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => this.#take(socket));
    this.#server.listen(path);
    t.teardown(() => this.close());
  }

  /** The session that there is, with a channel or without. */
  get session(): Session {
    const session = this.sessions.at(-1);
    if (session === undefined) throw new Error('there is no session');
    return session;
  }

  /** Opens a stream to a service of the peer. */
  open(service: string): MuxStream {
    // It may still be open when the side is closed.
    return MuxStream.open(this.session, service).on('error', () => undefined);
  }

  /** Loses the channel, with what is on the way. */
  cut(): void {
    for (const { link } of this.#runners) link.destroy();
  }

  /** Ends all, as a process that is killed: nobody is told. */
  async close(): Promise<void> {
    const reason = new VproxyError('shutdown', 'the side is closed');
    this.#settings.resume?.kept.stop(reason);
    this.cut();
    await Promise.all([...this.#runners].map(({ closed }) => closed));
    await new Promise((resolve) => void this.#server.close(resolve));
  }

  #take(socket: net.Socket): void {
    if (this.isRefusing) {
      socket.destroy();
      return;
    }
    this.connections += 1;
    const link = new SocketLink('the channel', (onread) => readBuffered(socket, onread));
    const runner = new LinkRunner(link, systemClock, this.#settings);
    this.#runners.add(runner);
    void runner.closed.then(() => this.#runners.delete(runner));
    runner.loop.on('session', (session) => this.#begin(session));
    runner.loop.on('resumed', () => {
      this.resumptions += 1;
    });
    runner.loop.on('abandoned', () => link.destroy());
    runner.start();
  }

  #begin(session: Session): void {
    this.sessions.push(session);
    session.on('end', ({ code }) => this.endings.push(code));
    session.on('stream', (stream) => {
      const echo = MuxStream.accept(session, stream);
      echo.pipe(echo);
    });
    session.start(['echo']);
  }
}
