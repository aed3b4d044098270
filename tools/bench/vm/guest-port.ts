/**
 * The guest's end of the measurements that vproxy is compared with: `guest-port.js MODE CHANNEL [PORT]`. `relay` joins
 * the port to a local TCP target without a multiplexer, `raw` serves the measurement on the port itself, `mux` on
 * streams of a session in this process.
 */
import net from 'node:net';
import { Duplex } from 'node:stream';
import { parseChannel } from '../../../lib/channel/address/address.js';
import { Proxy } from '../../../lib/index.js';
import type { Link } from '../../../lib/link/link.js';
import { serveLoad } from './serve.js';

const [mode = '', channel = '', port = '0'] = process.argv.slice(2);

/** A link as a Node stream, with back-pressure on writes; reads never pause, as the port requires. */
class LinkStream extends Duplex {
  readonly #link: Link;
  #onDrain: (() => void) | null = null;

  constructor(link: Link) {
    super({ allowHalfOpen: true, writableHighWaterMark: 262_144 });
    this.#link = link;
    link.start({
      onBytes: (bytes) => {
        this.push(Buffer.from(bytes));
        return false;
      },
      onDrain: () => {
        const onDrain = this.#onDrain;
        this.#onDrain = null;
        onDrain?.();
      },
      onClosed: () => this.destroy(),
    });
  }

  override _read(): void {
    // Bytes are pushed on arrival.
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: () => void): void {
    if (this.#link.write(chunk)) callback();
    else this.#onDrain = callback;
  }

  override _destroy(error: Error | null, callback: (error: Error | null) => void): void {
    this.#link.destroy();
    callback(error);
  }
}

/** Joins a link to a socket as directly as possible: the plain relay that vproxy is compared with. */
function relay(link: Link, target: net.Socket): Promise<void> {
  return new Promise((resolve) => {
    target.on('data', (chunk) => {
      if (!link.write(chunk)) target.pause();
    });
    target.on('error', () => link.destroy());
    target.on('close', () => link.destroy());
    link.start({
      onBytes: (bytes) => {
        target.write(bytes);
        return target.writableLength > 0;
      },
      onDrain: () => target.resume(),
      onClosed: () => {
        target.destroy();
        resolve();
      },
    });
  });
}

async function nextLink(): Promise<Link> {
  const { kind, address } = parseChannel(channel);
  if (kind.mode !== 'dial') throw new Error(`${channel} is not dialled`);
  const signal = new AbortController().signal;
  for (;;) {
    try {
      return await kind.dial(address, { signal, report: { waiting: () => undefined } });
    } catch {
      // The port is briefly busy after its last opener.
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

if (mode === 'mux') {
  const proxy = new Proxy({ channels: [{ address: channel, storage: { isAllowed: false } }], agent: 'vproxy bench' });
  proxy.serve('load', serveLoad);
  await proxy.start();
}
console.log('ready');
while (mode !== 'mux') {
  const link = await nextLink();
  if (mode === 'relay') {
    await relay(link, net.connect({ host: '127.0.0.1', port: Number(port), noDelay: true }));
  } else {
    const stream = new LinkStream(link);
    serveLoad(stream);
    await new Promise((resolve) => stream.once('close', resolve));
  }
}
