/** What guests and origin servers send through an egress, and what it dials. */
import './answers.js';
import './dial.js';
import './http.js';
import './socks.js';
import './tunnel.js';
