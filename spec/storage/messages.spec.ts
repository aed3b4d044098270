/** Storage calls as bytes: requests, replies, labels, and files of recorded replies. */
import './replies.js';
import './request-labeller.js';
import './wire.js';
