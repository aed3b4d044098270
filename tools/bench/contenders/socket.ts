/** The socket alone: the load's two ends without anything between them. */
import type { Contender } from './contender.js';

/** No proxy at all: the limit of the load itself. */
export const socket: Contender = {
  id: 'socket',
  title: 'socket',
  descriptorsPerStream: 0,
  missing: () => undefined,
  start: ({ target }) => Promise.resolve({ address: target, near: [], far: [] }),
};
