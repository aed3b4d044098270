/** All conversations, in the order of docs/protocol.md. */
import type { Conversations } from '../script.js';
import { AUTHENTICATION } from './authentication.js';
import { DATAGRAMS } from './datagrams.js';
import { FLOW_CONTROL } from './flow-control.js';
import { FRAMES, WRONG_FRAMES } from './frames.js';
import { LIVENESS } from './liveness.js';
import { OPENING } from './opening.js';
import { RESUME } from './resume.js';
import { SERVICES } from './services.js';
import { STREAMS } from './streams.js';

/** Those whose bytes come in pieces of any size, too. */
export const IN_PIECES: Conversations = { ...OPENING, ...WRONG_FRAMES, ...FRAMES };

export const WHOLE: Conversations = {
  ...AUTHENTICATION,
  ...SERVICES,
  ...STREAMS,
  ...DATAGRAMS,
  ...FLOW_CONTROL,
  ...LIVENESS,
  ...RESUME,
};
