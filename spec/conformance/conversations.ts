/** The conversations of `conformance/cases/`, held with a session in process. */

import { IN_PIECES, WHOLE } from '../../conformance/cases/index.js';
import { conversations } from '../helpers/conversation.js';

conversations(IN_PIECES, [7, 64, undefined]);
conversations(WHOLE);
