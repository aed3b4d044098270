/** Forwards that one side hands over to another in the middle of the bytes of their connections; the peer is a spec. */
import { once } from 'node:events';
import type net from 'node:net';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import type { LogEvent } from '../../lib/events.js';
import type { EgressRules } from '../../lib/forward/egress/rules.js';
import { IncomingForward } from '../../lib/forward/incoming.js';
import type { InputFilters } from '../../lib/forward/input-filter.js';
import { ServiceRegistry } from '../../lib/forward/service-registry.js';
import { type Forward, type ForwardState, type Predecessor, parseForwardSpec } from '../../lib/forward/spec.js';
import { StreamTally } from '../../lib/forward/stream-tally.js';
import type { SessionStream } from '../../lib/session/stream.js';
import { ChangeHere } from '../helpers/change-here.js';
import { temporaryFolder } from '../helpers/files.js';
import { FramePeer } from '../helpers/frame-peer.js';
import { localServer } from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';

export const MIB = 2 ** 20;

/** A session whose peer is a spec, with room for everything sent, and a forward that changes sides. */
export abstract class ForwardScene<F extends Forward> {
  readonly peer: FramePeer;
  readonly here: ChangeHere;
  readonly events: LogEvent[] = [];
  readonly texts: string[] = [];
  readonly #received: Buffer[] = [];
  readonly streams: SessionStream[] = [];
  /** The counters of the successor. */
  readonly nextTally = new StreamTally();
  abstract readonly forward: F;
  #next: F | null = null;

  constructor(here: ChangeHere, streamCredit: number) {
    const room = { streamCredit: 64 * MIB, inFlight: 64 * MIB };
    this.here = here;
    this.peer = FramePeer.established({ limits: room, peerLimits: { ...room, streamCredit } });
  }

  pump(): void {
    this.peer.pump();
    for (const frame of this.peer.log.take()) {
      if (frame.type === FRAME_TYPE.DATA) this.#received.push(Buffer.from(frame.payload));
      else this.texts.push(`${NAMES.get(frame.type) ?? frame.type} ${frame.streamId}`);
    }
  }

  async seen(text: string): Promise<void> {
    const isRead = () => (this.pump(), this.texts.includes(text));
    await eventually(isRead, { intervalMs: 2, what: text });
  }

  received(byteCount: number): Promise<Buffer> {
    const all = (): Buffer | null => {
      this.pump();
      const bytes = Buffer.concat(this.#received);
      return bytes.length >= byteCount ? bytes : null;
    };
    return eventually(all, { intervalMs: 2, what: `${byteCount} bytes` });
  }

  sendData(streamId: number, bytes: Buffer): void {
    for (let at = 0; at < bytes.length; at += 65_536) this.peer.sendData(streamId, bytes.subarray(at, at + 65_536));
  }

  get told(): string {
    this.pump();
    return Buffer.concat(this.#received).toString('latin1');
  }

  get eventTypes(): string[] {
    return this.events.map(({ event }) => event);
  }

  readonly log = (event: LogEvent): void => {
    this.events.push(event);
  };

  /** The forward of the side that hands over; it has none afterwards. */
  readonly oldLog = (event: LogEvent): void => {
    if (!this.here.isOver) this.events.push(event);
  };

  protected indexOf = (stream: SessionStream): number => {
    const target = this.here.targetOf(stream) as SessionStream | undefined;
    return target === undefined ? -1 : this.streams.indexOf(target);
  };

  get next(): F {
    if (this.#next === null) throw new Error('nothing was handed over');
    return this.#next;
  }

  protected abstract succeed(predecessor: Predecessor): F;

  /** Captures the forward in a timer, as required, and creates the next one, which is not resumed yet. */
  async handOver(): Promise<ForwardState> {
    const { forward } = this;
    const take = () => (forward.obstacles().length === 0 ? forward.capture(this.here.keep, this.indexOf) : null);
    const capture = await eventually(take, { intervalMs: 1 });
    const state = this.here.end(capture);
    this.#next = this.succeed({ state, take: this.here.take, streams: this.streams });
    return state;
  }

  /** The same, and resumes the next one. */
  async change(): Promise<F> {
    await this.handOver();
    await this.next.goOn();
    return this.next;
  }
}

const NAMES = new Map<number, string>(Object.entries(FRAME_TYPE).map(([name, type]) => [type as number, name]));

interface SceneOptions {
  /** How much the peer takes at first. Default: everything. */
  readonly streamCredit?: number;
  readonly egress?: (name: string) => EgressRules | null;
  readonly filters?: InputFilters;
}

export class IncomingScene extends ForwardScene<IncomingForward> {
  readonly registry = new ServiceRegistry();
  readonly nextRegistry = new ServiceRegistry();
  readonly forward: IncomingForward;
  protected readonly succeed: (predecessor: Predecessor) => IncomingForward;

  private constructor(t: ExecutionContext, here: ChangeHere, target: string, { streamCredit = 64 * MIB, ...more }) {
    super(here, streamCredit);
    const options = { id: 'f1', log: this.log, clock: this.peer.clock, maxStreams: 10, ...more };
    const spec = parseForwardSpec('incoming', `x:${target}`);
    this.forward = new IncomingForward(spec, { ...options, registry: this.registry, log: this.oldLog });
    t.teardown(() => this.forward.stop());
    this.succeed = (predecessor) => {
      const next = new IncomingForward(
        spec,
        { ...options, registry: this.nextRegistry, tally: this.nextTally },
        predecessor,
      );
      t.teardown(() => next.stop());
      return next;
    };
    this.peer.onStream = (stream) => {
      this.streams.push(stream);
      this.registry.serve(here.forOld(stream), this.peer.session);
    };
  }

  static async start(t: ExecutionContext, target: string, options: SceneOptions = {}): Promise<IncomingScene> {
    const scene = new IncomingScene(t, await ChangeHere.prepare(), target, options);
    await scene.forward.start();
    return scene;
  }

  /** A scene whose target is a server of the test, and the socket of a stream to it, which is not read yet. */
  static async open(t: ExecutionContext, { isTcp = true, ...options }: SceneOptions & { isTcp?: boolean } = {}) {
    const path = join(temporaryFolder(t), 'target');
    const server = await localServer(t, () => undefined, isTcp ? undefined : { path }, { pauseOnConnect: true });
    const scene = await IncomingScene.start(t, isTcp ? String(server.port) : path, options);
    const connected = once(server, 'connection') as Promise<[net.Socket]>;
    scene.peer.sendOpen(1, 'x');
    const [socket] = await connected;
    await scene.seen('ACCEPT 1');
    return { scene, socket, stream: scene.streams[0] as SessionStream };
  }
}
