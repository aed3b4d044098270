/** What comes between a stream and its local end, for services in which the bytes of the peer may not pass as they are. */
import type { Writable } from 'node:stream';
import { toVproxyError } from '../errors.js';

/** Changes what one stream brings. */
export interface InputFilter {
  /** What the local end gets for bytes of the peer, which are lent for the call. Throws what ends the connection. */
  push(bytes: Buffer): Buffer;
  /** What the local end gets before its end. Throws what ends the connection. */
  end(): Buffer;
  /** This number of the bytes that were given has left this process. */
  sent(byteCount: number): void;
  /** The connection is closed. */
  close(): void;
}

/** A filter for a new stream of a service; null where its bytes pass as they are. */
export type InputFilters = (service: string) => InputFilter | null;

/**
 * Has all that is written to a local end from now on pass a filter. One that throws destroys it with that error. The
 * bytes of a write count as written when those that came of them are.
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
