/** The conversations of `cases/`, held with a session in process. */
import { conversations } from '../helpers/conversation.js';
import { IN_PIECES, WHOLE } from './cases/index.js';

conversations(IN_PIECES, [7, 64, undefined]);
conversations(WHOLE);
