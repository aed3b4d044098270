/** Storage calls as texts and bytes, and the broker that takes them, without a proxy. */
import './broker.js';
import './listen.js';
import './replies.js';
import './request-labeller.js';
import './wire.js';
