/** A filter between a stream and its local end, for services that must not pass the peer's bytes unchanged. */
import type { Writable } from 'node:stream';
import { toVproxyError } from '../errors.js';

/** Transforms the input of one stream. */
export interface InputFilter {
  /** Returns what the local end gets for the peer's bytes, which are lent for the call. An error ends the connection. */
  push(bytes: Buffer): Buffer;
  /** Returns what the local end gets before EOF. An error ends the connection. */
  end(): Buffer;
  /** This many of the returned bytes have left this process. */
  sent(byteCount: number): void;
  /** The connection is closed. */
  close(): void;
}

/** Creates the filter for a new stream of a service; null if its bytes pass unchanged. */
export type InputFilters = (service: string) => InputFilter | null;

/**
 * Passes everything written to a local end through a filter from now on. If the filter throws, the local end is destroyed with
 * that error. A write counts as done once the bytes that it became are written.
 */
export function filterInput(local: Writable, filter: InputFilter | null): void {
  if (filter === null) return;
  const write = local.write.bind(local) as (bytes: Buffer, callback: () => void) => boolean;
  const end = local.end.bind(local) as () => Writable;
  const pass = (make: () => Buffer, callback: () => void): boolean => {
    let bytes: Buffer;
    try {
      bytes = make();
    } catch (error) {
      local.destroy(toVproxyError(error));
      process.nextTick(callback);
      return false;
    }
    if (bytes.length === 0) {
      process.nextTick(callback);
      return true;
    }
    return write(bytes, () => {
      filter.sent(bytes.length);
      callback();
    });
  };
  local.once('close', () => filter.close());
  Object.assign(local, {
    write: (bytes: Buffer, callback: () => void = () => undefined) => pass(() => filter.push(bytes), callback),
    end: () => {
      pass(
        () => filter.end(),
        () => undefined,
      );
      return end();
    },
  });
}
