/** The local end of a stream that writes down what happens to it. */

import type { VproxyError } from '../../lib/errors.js';
import type { LocalEnd } from '../../lib/session/local-end.js';
import type { SessionStream } from '../../lib/session/stream.js';

export class RecordingSink implements LocalEnd {
  /** What was called, in order: `accept`, `data`, `fin`, `stop CODE`, `sent`, `end`, `end CODE`. */
  readonly events: string[] = [];
  readonly chunks: Buffer[] = [];
  /** The stream, where bytes are to be released as they come. */
  releases: SessionStream | null = null;
  reason: VproxyError | null = null;
  isOver = false;

  /** All that came. */
  get bytes(): Buffer {
    return Buffer.concat(this.chunks);
  }

  handleAccept(): void {
    this.events.push('accept');
  }

  handleData(bytes: Buffer): boolean {
    this.events.push('data');
    this.chunks.push(Buffer.from(bytes));
    this.releases?.release(bytes.length);
    return false;
  }

  handleFin(): void {
    this.events.push('fin');
  }

  handleStop(reason: VproxyError): void {
    this.events.push(`stop ${reason.code}`);
  }

  handleSent(): void {
    this.events.push('sent');
  }

  handleEnd(reason: VproxyError | null): void {
    if (this.isOver) throw new Error('the end came twice');
    this.isOver = true;
    this.reason = reason;
    this.events.push(reason === null ? 'end' : `end ${reason.code}`);
  }
}
