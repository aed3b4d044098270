/** Sessions and their parts, in memory and on a manual clock, all in one process. */
import './backlog.js';
import './hand-over.js';
import './paced-sink.js';
import './resume.js';
import './silence.js';
import './sleepy-port.js';
import './turns.js';
