/** Taking over: the successor's side of a hand-over. */
import { closeSync, fstatSync, statSync } from 'node:fs';
import { deserialize } from 'node:v8';
import { toVproxyError } from '../../lib/errors.js';
import type { WrittenOptions } from '../../lib/proxy/channel/channel-options.js';
import { type CheckedChannel, checkChannel } from '../../lib/proxy/channel/check-channel.js';
import type { TakeDescriptor } from '../../lib/system/descriptors.js';
import { HandoverPipe, loadHandoverCalls } from '../../lib/system/handover-pipe.js';
import { describeAgent } from '../package-info.js';
import { decodeDocument, type HandoverDocument } from './document.js';
import { HANDOVER_FORM } from './form.js';
import { PROGRAM_DESCRIPTORS } from './starting.js';

/** How long the predecessor may take to read a message, in milliseconds. */
const SEND_MS = 10_000;

/** How long it may take to send a buffered piece, in milliseconds. */
const RECEIVE_MS = 10_000;

/**
 * Takes over, once everything needed is loaded: checks the predecessor's channels while that works on; `restore` then receives its
 * state, in one turn of the event loop and without reading or writing. Resolves with its result when this process is the active
 * one; with null if the predecessor has exited or continues itself, after reporting an error of either to it. This process must
 * then exit at once.
 */
export async function takeOver<Restored>(
  fd: number,
  restore: (document: HandoverDocument, take: TakeDescriptor, checked: readonly CheckedChannel[]) => Restored,
): Promise<Restored | null> {
  closeProgram();
  const pipe = new HandoverPipe(await loadHandoverCalls(), fd);
  pipe.sendMessage({ form: HANDOVER_FORM, version: describeAgent() }, SEND_MS);
  let restored: Restored;
  let parcel: ReturnType<HandoverPipe['receiveAll']>;
  try {
    const written = deserialize(pipe.receiveAll(Number.POSITIVE_INFINITY).document) as WrittenOptions[];
    const checked = written.map(checkChannel);
    pipe.sendMessage({ checked: true }, SEND_MS);
    parcel = pipe.receiveAll(Number.POSITIVE_INFINITY);
    const receive = (byteCount: number) => pipe.receivePiece(byteCount, RECEIVE_MS);
    const document = decodeDocument(parcel.document, receive) as HandoverDocument;
    const take = (index: number) => {
      const descriptor = parcel.descriptors[index];
      if (descriptor === undefined) throw new Error(`no descriptor ${index}`);
      return descriptor;
    };
    restored = restore(document, take, checked);
  } catch (error) {
    tellFailure(pipe, error);
    return null;
  }
  // It contains the secrets that resume sessions.
  parcel.document.fill(0);
  if (!isLeft(pipe)) return null;
  closeSync(fd);
  return restored;
}

/** Closes the descriptor that this program was executed from. */
function closeProgram(): void {
  const own = statSync('/proc/self/exe');
  for (const fd of Object.values(PROGRAM_DESCRIPTORS)) {
    try {
      const { dev, ino } = fstatSync(fd);
      if (dev === own.dev && ino === own.ino) closeSync(fd);
    } catch {
      // It was started by path.
    }
  }
}

function tellFailure(pipe: HandoverPipe, error: unknown): void {
  try {
    pipe.sendMessage({ failure: toVproxyError(error).message }, SEND_MS);
  } catch {
    // It has exited, or will kill this process anyway.
  }
}

/**
 * Whether the predecessor leaves everything to this process. Only its message counts: a predecessor that continues closes the
 * pipe, too, and kills a program that started this process in its place.
 */
function isLeft(pipe: HandoverPipe): boolean {
  try {
    pipe.sendMessage({ ready: true }, SEND_MS);
    return pipe.receiveMessage(Number.POSITIVE_INFINITY)['go'] === true;
  } catch {
    return false;
  }
}
