/** Encoding of storage calls: requests, replies, labels, and files of recorded replies. */
import './replies.js';
import './request-labeller.js';
import './wire.js';
