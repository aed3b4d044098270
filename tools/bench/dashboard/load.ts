/** The load for the picture of the dashboard: a host with four channels, their guests, traffic, and faults. */
import dgram from 'node:dgram';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { VproxyProcess } from '../../../spec/helpers/vproxy-process.js';
import { FaultyRelay } from '../soak/relay.js';

/** An event, in seconds since the load began. */
export interface LoadEvent {
  readonly x: number;
  readonly text: string;
}

const LABELS = ['vm1', 'vm2', 'vm3', 'vm4'] as const;
type Label = (typeof LABELS)[number];

/** Logged by each side of the channel whose sessions survive a break. */
const OPTIONS: Readonly<Record<Label, string>> = { vm1: ',resume=60s', vm2: '', vm3: '', vm4: '' };

/** The delay before a failed connection is retried. */
const AGAIN_MS = 300;
const TURN_MS = 20;

/** The traffic of a program that writes into a forward and reads it back. */
interface Flow {
  readonly service: string;
  readonly bytesPerS: number;
  /** Time after which it reconnects. Default: never. */
  readonly lifetimeMs?: number;
}

const FLOWS: readonly Flow[] = [
  { service: 'vm1.echo', bytesPerS: 4_000_000 },
  { service: 'vm1.sink', bytesPerS: 2_000_000 },
  { service: 'vm2.echo', bytesPerS: 1_500_000 },
  ...Array.from({ length: 6 }, () => ({ service: 'vm2.echo', bytesPerS: 2_000 })),
  // More than the sockets on the way hold without a reader.
  ...Array.from({ length: 40 }, () => ({ service: 'vm3.sink', bytesPerS: 75_000 })),
  ...Array.from({ length: 4 }, () => ({ service: 'vm4.echo', bytesPerS: 50_000, lifetimeMs: 2_000 })),
];

/** The caller that starts it stops it. */
export class Load {
  readonly #folder: string;
  readonly #stopping = new AbortController();
  readonly #servers: net.Server[] = [];
  readonly #sockets = new Set<net.Socket>();
  readonly #relays = new Map<Label, FaultyRelay>();
  readonly #guests = new Map<Label, VproxyProcess>();
  readonly #datagrams = dgram.createSocket('udp4');
  readonly #others: VproxyProcess[] = [];
  #host: VproxyProcess | null = null;
  #targets = { echo: 0, sink: 0 };

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Starts all processes, without traffic; resolves with the addresses of `/metrics` by process, as `HOST:PORT`. */
  async start(): Promise<Readonly<Record<string, string>>> {
    this.#targets = {
      echo: await this.#serve((socket) => socket.pipe(socket)),
      sink: await this.#serve((socket) => socket.resume()),
    };
    for (const label of LABELS) {
      const relay = new FaultyRelay(this.#path(label, 'guest'), this.#path(label, 'host'));
      await relay.start();
      this.#relays.set(label, relay);
    }
    const host = new VproxyProcess(
      [
        ...LABELS.flatMap((label) => ['-c', `${label}=unix-listen:${this.#path(label, 'host')}${OPTIONS[label]}`]),
        ...LABELS.flatMap((label) =>
          ['echo', 'sink', 'closed'].flatMap((name) => ['-o', `${label}/${label}.${name}:127.0.0.1:0`]),
        ),
        ...['-o', 'vm4/vm4.log:udp:127.0.0.1:0', '--metrics', '127.0.0.1:0', '--control', this.#control],
        ...['-o', `vm1/storage:${join(this.#folder, 'emulator.sock')}`, '-i', 'vm1/web:egress:'],
        ...['--egress', `web:allow=127.0.0.1:${this.#targets.echo}`],
      ],
      { hasOwnGroup: true },
    );
    this.#host = host;
    for (const label of LABELS) this.#startGuest(label);
    const replies = join(this.#folder, 'replies.json');
    writeFileSync(replies, JSON.stringify({ replies: [{ pattern: ['**'], status: 0 }] }));
    this.#others.push(
      new VproxyProcess(['storage-emulator', '--replies', replies, '--dial', join(this.#folder, 'emulator.sock')]),
    );
    return { host1: await metricsOf(host), vm1: await metricsOf(this.#guests.get('vm1')) };
  }

  #startGuest(label: Label): void {
    const { echo, sink } = this.#targets;
    const guest = new VproxyProcess(
      [
        ...['-c', `unix-connect:${this.#path(label, 'guest')}${OPTIONS[label]}`],
        ...['-i', `${label}.echo:127.0.0.1:${echo}`, '-i', `${label}.sink:127.0.0.1:${sink}`],
        // Nothing listens there.
        ...['-i', `${label}.closed:${join(this.#folder, 'nobody')}`],
        ...['-i', `${label}.log:udp:127.0.0.1:9`],
        ...(label === 'vm1' ? this.#guestCalls : []),
      ],
      { hasOwnGroup: true },
    );
    this.#guests.set(label, guest);
  }

  /** The options with which a guest answers commands and copies, and passes on storage calls and web requests. */
  get #guestCalls(): string[] {
    const paths = ['--allow-exec=/bin/true', `--allow-copy=${this.#folder}`, '--storage-socket', this.#broker];
    return [...paths, '--metrics', '127.0.0.1:0', '-o', 'web:127.0.0.1:0'];
  }

  get #control(): string {
    return join(this.#folder, 'control.sock');
  }

  get #broker(): string {
    return join(this.#folder, 'storage.sock');
  }

  /** Runs traffic for a time, with faults at fixed points; resolves with the events. Rejects when interrupted. */
  async run(durationMs: number, onProgress: (line: string) => void): Promise<LoadEvent[]> {
    const began = performance.now();
    const events: LoadEvent[] = [];
    const until = async (part: number): Promise<void> =>
      delay(Math.max(0, began + part * durationMs - performance.now()), undefined, this.#stopping);
    const note = (text: string): void => {
      events.push({ x: (performance.now() - began) / 1000, text });
      onProgress(text);
    };
    const traffic = [...FLOWS.map((flow) => this.#flow(flow)), this.#log(), this.#call()];

    await until(0.15);
    note('the channel of vm1 breaks, and its session resumes');
    this.#relays.get('vm1')?.cut();
    await until(0.28);
    note('vm3 does not read its port for a while');
    this.#relays.get('vm3')?.stall();
    await until(0.33);
    this.#relays.get('vm3')?.goOn();
    await until(0.45);
    note('vm2 is reset and reboots');
    await this.#end('vm2', 'SIGKILL');
    await until(0.5);
    this.#startGuest('vm2');
    await until(0.6);
    note('programs connect to a service of vm4 whose target refuses them');
    const refused = this.#hopeless('vm4.closed', 0.12 * durationMs);
    await until(0.8);
    note('vm4 is shut down and restarted later');
    await this.#end('vm4', 'SIGTERM');
    await until(0.9);
    this.#startGuest('vm4');
    await until(1);
    this.#stopping.abort();
    await Promise.all([...traffic, refused]);
    return events;
  }

  async #end(label: Label, signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    const guest = this.#guests.get(label);
    guest?.kill(signal);
    await guest?.exited;
  }

  /** Writes at its rate, on one connection after another, until the load ends. */
  async #flow({ service, bytesPerS, lifetimeMs = Number.POSITIVE_INFINITY }: Flow): Promise<void> {
    const isOver = (): boolean => this.#stopping.signal.aborted;
    const port = (await this.#host?.listeningPort(service)) ?? 0;
    const piece = Buffer.alloc(Math.max(1, Math.round((bytesPerS * TURN_MS) / 1000)), 'x');
    while (!isOver()) {
      const socket = this.#connect(port);
      const end = performance.now() + lifetimeMs;
      while (!socket.destroyed && !isOver() && performance.now() < end) {
        // A paused writer does not catch up afterwards.
        if (socket.writableLength === 0) socket.write(piece);
        await delay(TURN_MS);
      }
      // Bytes in flight come back, unless the channel is closed.
      const closed = socket.destroyed ? undefined : once(socket.end(), 'close').catch(() => undefined);
      await Promise.race([closed, delay(AGAIN_MS)]);
      socket.destroy();
    }
  }

  /** Opens some connections a second to a service that refuses them. */
  async #hopeless(service: string, durationMs: number): Promise<void> {
    const port = (await this.#host?.listeningPort(service)) ?? 0;
    const end = performance.now() + durationMs;
    while (performance.now() < end && !this.#stopping.signal.aborted) {
      this.#connect(port);
      await delay(AGAIN_MS / 2);
    }
  }

  /** Sends lines of a log, each as a datagram. */
  async #log(): Promise<void> {
    const [, port = '0'] = (await this.#host?.waitForLine(/listening on udp:127\.0\.0\.1:(\d+)/)) ?? [];
    while (!this.#stopping.signal.aborted) {
      this.#datagrams.send('<13>vm4: a line of a log', Number(port), '127.0.0.1');
      await delay(TURN_MS * 5);
    }
  }

  /** Runs a command, makes a copy and a storage call, and asks for a page that is not allowed, over and over. */
  async #call(): Promise<void> {
    const port = (await this.#guests.get('vm1')?.listeningPort('web')) ?? 0;
    const control = { env: { VPROXY_SOCKET: this.#control } };
    const storage = { script: 'dist/program/vproxy-storage.cjs', env: { VPROXY_STORAGE_SOCKET: this.#broker } };
    while (!this.#stopping.signal.aborted) {
      const calls = [
        new VproxyProcess(['exec', 'vm1:', '/bin/true'], control),
        new VproxyProcess(['exec', 'vm1:', '/bin/false'], control),
        new VproxyProcess(
          ['copy', join(this.#folder, 'replies.json'), `vm1:${join(this.#folder, 'copied.json')}`],
          control,
        ),
        new VproxyProcess(['show'], storage),
      ];
      for (const host of ['127.0.0.1', 'example.org']) {
        const destination = `${host}:${host === '127.0.0.1' ? this.#targets.echo : 80}`;
        this.#connect(port).end(`CONNECT ${destination} HTTP/1.1\r\nHost: ${destination}\r\n\r\n`);
      }
      await Promise.all(calls.map(({ exited }) => exited));
      await delay(AGAIN_MS * 10, undefined, this.#stopping).catch(() => undefined);
    }
  }

  #connect(port: number): net.Socket {
    const socket = net.connect(port, '127.0.0.1');
    this.#sockets.add(socket);
    socket.on('error', () => undefined).once('close', () => this.#sockets.delete(socket));
    return socket.resume();
  }

  async #serve(take: (socket: net.Socket) => void): Promise<number> {
    const server = net.createServer((socket) => {
      this.#sockets.add(socket);
      socket.on('error', () => undefined).once('close', () => this.#sockets.delete(socket));
      take(socket);
    });
    this.#servers.push(server);
    await once(server.listen(0, '127.0.0.1'), 'listening');
    return (server.address() as net.AddressInfo).port;
  }

  #path(label: Label, side: 'guest' | 'host'): string {
    return join(this.#folder, `${label}.${side}.sock`);
  }

  /** `run` rejects. */
  interrupt(): void {
    this.#stopping.abort();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await Promise.all([this.#host, ...this.#guests.values(), ...this.#others].map(async (side) => side?.stop()));
    for (const relay of this.#relays.values()) relay.stop();
    for (const socket of this.#sockets) socket.destroy();
    for (const server of this.#servers) server.close();
    this.#datagrams.close();
  }
}

/** The address at which a process serves its metrics. */
async function metricsOf(process: VproxyProcess | undefined): Promise<string> {
  const [, url = ''] = (await process?.waitForLine(/serving metrics at (\S+)/)) ?? [];
  return new URL(url).host;
}
