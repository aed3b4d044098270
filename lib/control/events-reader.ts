/** Newline-delimited JSON from a response, as one value after the other. */
import type http from 'node:http';
import { VproxyError } from '../errors.js';
import { requestError } from './answered-error.js';

/** No event is nearly as long: what has no newline within so many characters is no stream of events. */
const MAX_LINE_LENGTH = 4 * 2 ** 20;

/**
 * The values as they come, up to the end of the response, which is destroyed when nobody wants more. Rejects with
 * `control-unavailable` where it is cut off.
 */
export async function* readEvents<T>(socketPath: string, response: http.IncomingMessage): AsyncGenerator<T, void> {
  response.setEncoding('utf8');
  let rest = '';
  try {
    for await (const piece of response) {
      const lines = (rest + String(piece)).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) if (line !== '') yield JSON.parse(line) as T;
      if (rest.length > MAX_LINE_LENGTH) throw new VproxyError('control-unavailable', 'an event has no end');
    }
  } catch (error) {
    throw requestError(socketPath, error);
  } finally {
    response.destroy();
  }
}
