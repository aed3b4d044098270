/** What a control server keeps, without its sockets. */
import './event-loop-delay.js';
import './socket-paths.js';
import './stream-ends.js';
import './stream-rates.js';
