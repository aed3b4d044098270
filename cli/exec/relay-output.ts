/** Writes standard output and error to files, terminals, pipes or sockets, at the pace of their reader. */
import { fstatSync, writeSync } from 'node:fs';
import net from 'node:net';
import { type Readable, Writable } from 'node:stream';
import { systemCode } from '../../lib/errors.js';
import { deferred } from '../../lib/util/concurrency.js';
import { describeError } from '../../lib/util/escape.js';

/** The delay before retrying a terminal or a file that would block, in milliseconds. */
const RETRY_MS = 5;

export interface RelayedOutput {
  /** Whether nothing waits, so that the memory of everything received is free. */
  readonly isIdle: () => boolean;
  /** Waits until everything received is written, or there is no reader. */
  readonly written: () => Promise<void>;
}

/**
 * Writes all of `source` to a descriptor of this process, opened with the first byte. Calls `onFailure` if it cannot be written
 * to; destroys `source` if the reader has closed it.
 */
export function relayOutput(source: Readable, fd: 1 | 2, onFailure: (error: Error) => void): RelayedOutput {
  let output: Writable | null = null;
  const abandoned = deferred();
  const fail = (error: Error): void => {
    if (systemCode(error) === 'EPIPE') {
      source.destroy();
      abandoned.resolve();
    } else onFailure(named(fd, error));
  };
  source.on('data', (chunk: Buffer) => {
    output ??= openOutput(fd).on('error', fail);
    if (output.write(chunk)) return;
    source.pause();
    output.once('drain', () => source.resume());
  });
  return {
    isIdle: () => source.readableLength === 0 && (output === null || output.writableLength === 0),
    written: () => {
      const written = deferred();
      if (output === null) written.resolve();
      // `fail` reports a failure.
      else
        output.write('', (error) => {
          if (!error) written.resolve();
        });
      return Promise.race([written.promise, abandoned.promise]);
    },
  };
}

/** Writes all of `source` to standard output; resolves at its end, or when the reader has closed it. */
export function relayToEnd(source: Readable): Promise<void> {
  return new Promise((resolve, reject) => {
    const { written } = relayOutput(source, 1, reject);
    source.once('error', reject).once('close', () => void written().then(resolve));
  });
}

/** Names the stream in the message, and keeps the system's code. */
const named = (fd: 1 | 2, error: Error): Error => {
  error.message = `standard ${fd === 1 ? 'output' : 'error'}: ${describeError(error)}`;
  return error;
};

/** Pipes and sockets must not block the event loop; descriptors that cannot be polled are written synchronously. */
function openOutput(fd: number): Writable {
  const stat = fstatSync(fd);
  const canWait = stat.isFIFO() || stat.isSocket();
  return canWait ? new net.Socket({ fd, readable: false, writable: true }) : new FileWriter(fd);
}

type Callback = (error?: Error | null) => void;

/** A file, a terminal or a device. */
class FileWriter extends Writable {
  readonly #fd: number;

  constructor(fd: number) {
    super();
    this.#fd = fd;
  }

  override _write(chunk: Buffer, encoding: BufferEncoding, callback: Callback): void {
    let at = 0;
    try {
      while (at < chunk.length) at += writeSync(this.#fd, chunk, at);
      callback();
    } catch (error) {
      // Another process has made the terminal non-blocking.
      if (systemCode(error) !== 'EAGAIN') callback(error as Error);
      else setTimeout(() => this._write(chunk.subarray(at), encoding, callback), RETRY_MS);
    }
  }
}
