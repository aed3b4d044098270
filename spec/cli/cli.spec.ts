/** Parts of the command line, and commands that need no process of their own, in one process. */
import './docs.js';
import './embedded-koffi.js';
import './exec-options.js';
import './find-program.js';
import './find-socket.js';
import './genkey.js';
import './log-format.js';
import './open-port-warning.js';
import './table.js';
