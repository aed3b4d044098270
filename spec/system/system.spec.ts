/** Descriptors, files, sockets and processes of the system, in one process. */
import './datagrams/readiness.js';
import './files/secret-file.js';
import './proc/proc.js';
import './run-tool.js';
import './sockets/buffered-socket.js';
import './sockets/race.js';
import './sockets/socket-buffer.js';
import './sockets/sockets.js';
