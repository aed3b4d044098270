/** Taking over: what a process does that its predecessor has started to go on in its place. */
import { closeSync, fstatSync, statSync } from 'node:fs';
import { toVproxyError } from '../../lib/errors.js';
import type { TakeDescriptor } from '../../lib/system/descriptors.js';
import { HandoverPipe, loadHandoverCalls } from '../../lib/system/handover-pipe.js';
import { describeAgent } from '../package-info.js';
import { decodeDocument, type HandoverDocument } from './document.js';
import { HANDOVER_FORM } from './form.js';
import { PROGRAM_DESCRIPTORS } from './starting.js';

/** How long the predecessor may take to read a message, in milliseconds. */
const SEND_MS = 10_000;

/** How long it may take to send a piece of what waits, in milliseconds. */
const RECEIVE_MS = 10_000;

/**
 * Takes over, when all that is needed is loaded: `restore` gets what the predecessor had, in one turn of the event loop and
 * without reading or writing. Resolved with what it gives when this process is the one that goes on; with null where the
 * predecessor has ended, or goes on itself: it has been told what `restore` threw. This process must exit at once then.
 */
export async function takeOver<Restored>(
  fd: number,
  restore: (document: HandoverDocument, take: TakeDescriptor) => Restored,
): Promise<Restored | null> {
  closeProgram();
  const pipe = new HandoverPipe(await loadHandoverCalls(), fd);
  pipe.sendMessage({ form: HANDOVER_FORM, version: describeAgent() }, SEND_MS);
  let parcel: ReturnType<HandoverPipe['receiveAll']>;
  try {
    parcel = pipe.receiveAll(Number.POSITIVE_INFINITY);
  } catch {
    return null;
  }
  let restored: Restored;
  try {
    const document = decodeDocument(parcel.document, (byteCount) => pipe.receivePiece(byteCount, RECEIVE_MS));
    restored = restore(document, (index) => {
      const descriptor = parcel.descriptors[index];
      if (descriptor === undefined) throw new Error(`there is no descriptor ${index}`);
      return descriptor;
    });
  } catch (error) {
    tellFailure(pipe, error);
    return null;
  }
  // What makes sessions ones that can be taken up again is in it.
  parcel.document.fill(0);
  if (!isLeft(pipe)) return null;
  closeSync(fd);
  return restored;
}

/** This program, by whose descriptor it was started: it runs now. */
function closeProgram(): void {
  const own = statSync('/proc/self/exe');
  for (const fd of Object.values(PROGRAM_DESCRIPTORS)) {
    try {
      const { dev, ino } = fstatSync(fd);
      if (dev === own.dev && ino === own.ino) closeSync(fd);
    } catch {
      // It was started by its path.
    }
  }
}

function tellFailure(pipe: HandoverPipe, error: unknown): void {
  try {
    pipe.sendMessage({ failure: toVproxyError(error).message }, SEND_MS);
  } catch {
    // It has ended, or kills this process anyway.
  }
}

/**
 * Whether the predecessor leaves everything to this process. Only its word counts: the pipe is also closed by one that
 * continues, and kills a program that started this process in its place.
 */
function isLeft(pipe: HandoverPipe): boolean {
  try {
    pipe.sendMessage({ ready: true }, SEND_MS);
    return pipe.receiveMessage(Number.POSITIVE_INFINITY)['go'] === true;
  } catch {
    return false;
  }
}
