/** The control server: its state, its answers and their description, streams over it, and its typed client. */
import './client.js';
import './commands.js';
import './connect.js';
import './docs.js';
import './files.js';
import './health.js';
import './server.js';
import './state.js';
import './web-sockets.js';
