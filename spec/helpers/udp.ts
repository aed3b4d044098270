/** Programs that use UDP in the specs. */
import dgram from 'node:dgram';
import { once } from 'node:events';
import { isIPv6 } from 'node:net';
import type { ExecutionContext } from 'ava';
import { eventually } from './time.js';

export interface UdpMessage {
  readonly bytes: Buffer;
  readonly port: number;
}

export class UdpProgram {
  readonly messages: UdpMessage[] = [];
  readonly #socket: dgram.Socket;
  onMessage: (message: UdpMessage) => void = () => undefined;

  private constructor(socket: dgram.Socket) {
    this.#socket = socket;
    socket.on('message', (bytes, { port }) => {
      const message = { bytes, port };
      this.messages.push(message);
      this.onMessage(message);
    });
    socket.on('error', () => undefined);
  }

  forget(): void {
    this.#socket.removeAllListeners('message');
  }

  /** Bound to a port, or to any; closed with the test. */
  static async open(t: Pick<ExecutionContext, 'teardown'>, port = 0, address = '127.0.0.1'): Promise<UdpProgram> {
    const socket = dgram.createSocket({ type: isIPv6(address) ? 'udp6' : 'udp4', recvBufferSize: 2 ** 20 });
    const program = new UdpProgram(socket);
    socket.bind(port, address);
    await once(socket, 'listening');
    t.teardown(() => program.close());
    return program;
  }

  /** One that echoes messages. */
  static async openEcho(t: Pick<ExecutionContext, 'teardown'>, port = 0, address?: string): Promise<UdpProgram> {
    const program = await UdpProgram.open(t, port, address);
    program.onMessage = ({ bytes, port: from }) => program.send(bytes, from);
    return program;
  }

  get port(): number {
    return this.#socket.address().port;
  }

  get texts(): string[] {
    return this.messages.map(({ bytes }) => bytes.toString());
  }

  send(bytes: Buffer | string, port: number): void {
    this.#socket.send(bytes, port, this.#socket.address().address);
  }

  async came(count: number): Promise<readonly UdpMessage[]> {
    const what = `${count} messages, of which ${this.messages.length} have come`;
    await eventually(() => this.messages.length >= count, { what, intervalMs: 2 });
    return this.messages;
  }

  close(): void {
    try {
      this.#socket.close();
    } catch {
      // It is closed already.
    }
  }
}
