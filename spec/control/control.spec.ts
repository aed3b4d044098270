/** The state of a control server, and what its answers and its document say. */
import './docs.js';
import './health.js';
import './state.js';
