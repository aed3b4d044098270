/** One connection of an emulator: answers request after request with the handler's results. */
import type { Socket } from 'node:net';
import { toVproxyError, type VproxyError } from '../errors.js';
import { escapeText } from '../util/escape.js';
import { JsonScanner } from '../util/json-scanner.js';
import { decodeRequest, encodeReply, MAX_REQUEST_BYTES, type StorageRequest, type StorageResult } from './wire.js';

/** Decides what a storage utility answers. A handler that throws makes the call fail; nothing is tried again. */
export type StorageHandler = (request: StorageRequest) => StorageResult | Promise<StorageResult>;

/** What a connection tells its emulator. */
export interface EmulatorConnectionEvents {
  readonly onRequest: (request: StorageRequest) => void;
  /** A request could not be answered, or the connection broke. */
  readonly onFailure: (error: VproxyError) => void;
}

/** Serves a socket until its other end closes it; one request at a time, in order. Resolves when it is done with. */
export async function serveEmulatorConnection(
  socket: Socket,
  handler: StorageHandler,
  events: EmulatorConnectionEvents,
): Promise<void> {
  const scanner = new JsonScanner(MAX_REQUEST_BYTES, 'storage-bad-request', 'the storage request');
  const answer = async (message: Buffer): Promise<void> => {
    const request = readRequest(message);
    if (typeof request === 'string') {
      await write(socket, encodeReply({ stderr: `storage emulator: ${request}\n`, status: 126 }));
      return;
    }
    events.onRequest(request);
    await write(socket, encodeReply(await handler(request)));
  };
  socket.on('error', () => undefined);
  try {
    // Reading goes on only when all that came is answered: nobody can make an emulator queue requests.
    for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
      scanner.push(chunk as Buffer);
      for (let message = scanner.next(); message; message = scanner.next()) await answer(message);
    }
    const rest = scanner.end();
    if (rest) await answer(rest);
  } catch (error) {
    // To hang up is the one way to say that a call failed; a status would look like the utility's.
    events.onFailure(toVproxyError(error));
  } finally {
    socket.destroySoon();
  }
}

/** Resolves when the reply has left, so that a reader who is slow holds one reply at most. */
function write(socket: Socket, reply: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.write(reply, (error) => (error ? reject(error) : resolve()));
  });
}

function readRequest(message: Buffer): StorageRequest | string {
  try {
    return decodeRequest(message);
  } catch (error) {
    return escapeText(toVproxyError(error).message);
  }
}
